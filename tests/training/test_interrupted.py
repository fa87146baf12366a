"""Runs of two processes that are stopped, killed, out of disk or damaged come to the weights of an undisturbed one."""

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from processes import finish, start
from unclip.checkpoint import load_tensors
from unclip.training import TrainConfig

NUM_IMAGES, EVERY = 320, 80
Run = Callable[[Path], list[subprocess.Popen[str]]]


@pytest.fixture(scope="module")
def command(tiny_recipe: Callable[[str], TrainConfig]) -> list[str]:
    """`unclip train` of the smallest stage, 40 steps long, with a checkpoint every ten."""
    config = tiny_recipe("emoji/prior")
    assert config.task.kind == "prior"
    settings = {
        "data.folder": config.data.folder,
        "data.limit": "null",
        "task.clip": config.task.clip,
        "precision": "float32",
        "num_images": NUM_IMAGES,
        "checkpoint_images": EVERY,
    }
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["-m", "unclip", "train", "emoji/prior", "--smoke", "--device", "cpu", *changes, "--out"]


@pytest.fixture(scope="module")
def undisturbed(command: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The last state of a run of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(start([*command, folder], 2))
    return final(folder)


def succeed(processes: list[subprocess.Popen[str]]) -> str:
    ends = finish(processes)
    assert [code for code, _ in ends] == [0, 0], ends
    return "".join(errors for _, errors in ends)


def final(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / f"checkpoint-{NUM_IMAGES // 8:08d}.safetensors"
    assert [line["step"] for line in log(folder)] == list(range(1, NUM_IMAGES // 8 + 1))
    return load_tensors(path).tensors


def log(folder: Path) -> list[dict[str, float]]:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def after(folder: Path, num_steps: int) -> None:
    """Wait until a run has come so far."""
    deadline = time.monotonic() + 120
    while not (folder / "log.jsonl").exists() or (folder / "log.jsonl").read_bytes().count(b"\n") < num_steps:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_both_saves_and_ends_with_0(
    command: Sequence[str], undisturbed: dict[str, torch.Tensor], tmp_path: Path, number: signal.Signals
) -> None:
    processes = start([*command, tmp_path], 2)
    after(tmp_path, 13)
    for process in processes:
        process.send_signal(number)
    assert f"{number.name}: saved at" in succeed(processes)
    assert 13 <= len(log(tmp_path)) < NUM_IMAGES // 8
    succeed(start([*command, tmp_path], 2))
    same(final(tmp_path), undisturbed)


def test_one_killed_process_ends_the_other_and_the_run_goes_on(
    command: Sequence[str], undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    processes = start([*command, tmp_path], 2)
    after(tmp_path, 23)
    processes[1].kill()
    (code, errors), (killed, _) = finish(processes)
    assert killed == -signal.SIGKILL
    assert (code, errors.count("Traceback")) == (2, 0), errors
    assert "another process of the run has ended" in errors
    succeed(start([*command, tmp_path], 2))
    same(final(tmp_path), undisturbed)


def test_a_full_disk_ends_the_run_in_one_line_and_the_last_checkpoint_stays(
    command: Sequence[str], undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The system refuses files of the size of a checkpoint, after the first has been written."""
    # Warm processes are behind a program that passes signals on, but not limits.
    processes = start([*command, tmp_path], 2, start_new_session=True)
    after(tmp_path, 11)
    limit = 20_000
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    ends = finish(processes)
    assert [code for code, _ in ends] == [2, 2], ends
    assert all("cannot write" in errors and "Traceback" not in errors for _, errors in ends), ends
    assert not list(tmp_path.glob(".*.tmp"))
    assert "going on from" not in succeed(start([*command, tmp_path], 2))
    same(final(tmp_path), undisturbed)


def test_a_cut_checkpoint_is_passed_over_for_the_one_before_and_the_log_says_so(
    command: Sequence[str], undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    succeed(start([*command, tmp_path], 2))
    newest = max(tmp_path.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    errors = succeed(start([*command, tmp_path], 2))
    assert "skipped a damaged checkpoint" in errors
    assert "going on from checkpoint-00000030.safetensors" in errors
    same(final(tmp_path), undisturbed)


def test_another_number_of_processes_goes_on_with_the_same_samples(
    tiny_recipe: Callable[[str], TrainConfig], command: Sequence[str], tmp_path: Path
) -> None:
    """Without dropout, whose draws belong to a process, the losses are those of one process throughout."""
    command = [*command[:-1], "--set", "task.model.dropout=0", "--set", "optimizer.decay=constant", "--out"]
    shorter = [*command[:-1], "--set", "num_images=160", "--out"]
    succeed(start([*shorter, tmp_path / "changed"], 2))
    assert finish(start([*command, tmp_path / "changed"], 1))[0][0] == 0
    assert finish(start([*command, tmp_path / "alone"], 1))[0][0] == 0
    changed, alone = ([line["loss"] for line in log(tmp_path / name)] for name in ("changed", "alone"))
    assert changed == pytest.approx(alone, abs=1e-5, rel=0)


def test_two_runs_in_one_folder_are_refused(command: Sequence[str], tmp_path: Path) -> None:
    longer = [*command[:-1], "--set", "num_images=1000000", "--out", tmp_path]
    first = start(longer, 1)
    after(tmp_path, 2)
    ((code, errors),) = finish(start(longer, 1))
    first[0].terminate()
    assert code == 2
    assert errors.count("\n") == 1
    assert "another run trains in" in errors
    assert finish(first)[0][0] == 0
