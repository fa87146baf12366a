"""What trackers write, read back from their own files; no network."""

import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from unclip.errors import DependencyError
from unclip.training.logging import RunLog, StepReport, open_trackers

SETTINGS = {"name": "emoji/decoder", "batch_size": 8, "optimizer": {"learning_rate": 0.1}}
GRID = Image.new("RGB", (8, 4), "red")


def run(folder: Path, tracker: str, resume_step: int, steps: range) -> None:
    log = RunLog(folder, resume_step, (tracker,), SETTINGS)
    assert log.notes == []
    for step in steps:
        log.write(StepReport(step, 8 * step, 1 / step, {"grad_norm": float(step)}, 0.1))
    log.picture(GRID, 8 * steps[-1])
    log.close()


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))


# The log format of LevelDB, in which wandb keeps a run: blocks of 32 KiB with parts of records, after a header.
def records(path: Path) -> Iterator[bytes]:
    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        if place + 7 + length > len(content):
            return
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def history(path: Path) -> tuple[list[dict[str, float]], dict[str, object], str]:
    """Numbers of each step, the configuration and the id, from the file of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    # `finish` returns before the service of wandb has written the last records, of which the exit is one.
    deadline, written = time.monotonic() + 60.0, list[Record]()
    while not any(record.WhichOneof("record_type") == "exit" for record in written):
        assert time.monotonic() < deadline, f"{path} has {len(written)} records and no exit"
        time.sleep(0.05)
        written = [Record.FromString(content) for content in records(path)]
    steps, config, identity = [], {}, ""
    for record in written:
        if record.WhichOneof("record_type") == "history":
            values = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append({name: json.loads(value) for name, value in values.items()})
        if record.WhichOneof("record_type") == "run":
            identity = record.run.run_id
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    return steps, config, identity


@pytest.mark.usefixtures("_offline")
def test_weights_and_biases_offline_keeps_numbers_pictures_settings_and_one_run(tmp_path: Path) -> None:
    run(tmp_path, "wandb", 0, range(1, 5))
    run(tmp_path, "wandb", 2, range(3, 6))
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    (first, config, identity), (second, _, other) = map(history, files)
    numbers = ("_step", "loss", "grad_norm", "images_seen")
    assert [[step[name] for name in numbers] for step in first] == [[k, 1 / k, k, 8 * k] for k in (1, 2, 3, 4)]
    assert [[step[name] for name in numbers] for step in second] == [[k, 1 / k, k, 8 * k] for k in (3, 4, 5)]
    assert identity == other == (tmp_path / "wandb-run-id").read_text()
    assert {name: config[name] for name in SETTINGS} == SETTINGS
    pictures = sorted(tmp_path.glob("wandb/offline-run-*/files/media/images/samples_*.png"))
    assert len(pictures) == 2
    assert Image.open(pictures[0]).convert("RGB").tobytes() == GRID.tobytes()


# The protobuf that tensorboard parses its own files with warns of the C++ kind that it was built for.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_hides_what_a_resumed_run_makes_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, "tensorboard", 0, range(1, 5))
    run(tmp_path, "tensorboard", 2, range(3, 6))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [
        (8 * k, pytest.approx(1 / k)) for k in (1, 2, 3, 4, 5)
    ]
    assert [event.step for event in found.Images("samples")] == [40]
    assert (found.Images("samples")[0].width, found.Images("samples")[0].height) == (8, 4)


def test_what_is_not_installed_is_a_note_or_an_error_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    opened, notes = open_trackers(("tensorboard",), tmp_path, 0, {})
    assert opened == []
    assert notes == ["tensorboard is not installed, so log.jsonl is all there is; pip install 'unclip[train]'."]
    with pytest.raises(DependencyError, match=r"^trackers=wandb needs wandb; run: pip install 'unclip\[train\]'$"):
        open_trackers(("tensorboard", "wandb"), tmp_path, 0, {})
    with pytest.raises(DependencyError, match=r"^trackers=wandb needs wandb"):
        RunLog(tmp_path, 0, ("tensorboard", "wandb"), {})
    assert list(tmp_path.iterdir()) == []


def test_the_log_keeps_the_steps_up_to_the_checkpoint_and_goes_on(tmp_path: Path) -> None:
    for resume_step, steps in ((0, range(1, 5)), (2, range(3, 6))):
        log = RunLog(tmp_path, resume_step, ())
        for step in steps:
            log.write(StepReport(step, 8 * step, float(resume_step), {}, 0.1))
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["images_seen"], line["loss"]) for line in lines] == [
        (1, 8, 0), (2, 16, 0), (3, 24, 2), (4, 32, 2), (5, 40, 2),
    ]  # fmt: skip


def test_damaged_samples_stand_in_the_line_of_their_step(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, ())
    log.write(StepReport(1, 8, 0.5, {"skipped": 0.0}, 0.1, ("00000.tar: cat is cut short",)))
    log.write(StepReport(2, 16, 0.5, {"skipped": 0.0, "held_out_loss": 0.4}, 0.1))
    log.close()
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["damaged"], first["skipped"]) == (["00000.tar: cat is cut short"], 0.0)
    assert second == {"step": 2, "images_seen": 16, "loss": 0.5, "skipped": 0.0, "held_out_loss": 0.4}
