"""Stages in a row: how time is shared, what is left alone, and how a signal ends them."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from pictures import picture

from unclip.data import PrepareConfig, open_source, prepare
from unclip.errors import CheckpointError
from unclip.recipes import SeriesProgress, StageProgress, TrainingStage, get_recipe, train_stages
from unclip.training import DataConfig, StopFlag, stop_on_signal


@pytest.fixture
def stages(tmp_path: Path) -> list[TrainingStage]:
    """Two upsamplers on a few pictures."""
    own = tmp_path / "own"
    own.mkdir()
    for number in range(8):
        picture(number).save(own / f"{number}.png")
        (own / f"{number}.txt").write_text(f"number {number}")
    prepare(open_source(own), tmp_path / "shards", PrepareConfig(image_size=64))
    stages = []
    for name, share in (("cc3m/upsampler_256", 1.0), ("laion/upsampler_1024", 3.0)):
        config = get_recipe(name, smoke=True)
        data = DataConfig(folder=str(tmp_path / "shards"), source_size=64)
        stages.append(TrainingStage(config=config.replace(data=data, micro_batch_size=None), share=share))
    return stages


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_time_is_shared_among_what_is_not_finished(stages: list[TrainingStage]) -> None:
    first, second = stages
    assert SeriesProgress().seconds_for(first, stages, 4) == pytest.approx(60)
    early = SeriesProgress().after(first.name, 20.0, True)
    assert early.seconds_for(second, stages, 4) == pytest.approx(220)  # What the first one left is the second's.
    stopped = early.after(second.name, 100.0, False)
    assert stopped.seconds_for(second, stages, 4) == pytest.approx(120)
    late = SeriesProgress().after(first.name, 1000.0, True)
    assert late.seconds_for(second, stages, 4) == pytest.approx(180 / 4)  # A quarter of its share, whatever was.


def test_a_signal_ends_the_series_and_the_next_call_goes_on(stages: list[TrainingStage], tmp_path: Path) -> None:
    out = tmp_path / "out"
    # Long enough that the signal finds it at work.
    long = stages[0].replace(config=stages[0].config.replace(num_images=100_000, checkpoint_images=100_000))
    log = out / long.name / "log.jsonl"

    def end_when_training() -> None:
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_when_training, daemon=True).start()
    with stop_on_signal() as stopped:
        assert not train_stages([long, stages[1]], out, stopped)
    assert stopped.name == "SIGTERM"
    done = steps_of(out / long.name)
    assert len(done) < 10_000
    assert not (out / stages[1].name).exists()
    assert not SeriesProgress.load(out).of(long.name).is_finished

    rest = stages[0].replace(config=stages[0].config.replace(num_images=8 * (len(done) + 2)))
    assert train_stages([rest, stages[1]], out, StopFlag())
    assert steps_of(out / long.name) == list(range(1, len(done) + 3))
    assert steps_of(out / stages[1].name) == [1, 2, 3, 4]


def test_finished_stages_are_left_alone(
    stages: list[TrainingStage], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    SeriesProgress(stages={stages[0].name: StageProgress(seconds=1.0, is_finished=True)}).save(out)
    assert train_stages(stages, out, StopFlag())
    assert "cc3m/upsampler_256  is trained already" in capsys.readouterr().err
    assert not (out / stages[0].name).exists()
    assert SeriesProgress.load(out).of(stages[1].name).is_finished


def test_a_flag_that_is_set_already_starts_nothing(stages: list[TrainingStage], tmp_path: Path) -> None:
    flag = StopFlag()
    flag.name = "SIGINT"
    assert not train_stages(stages, tmp_path / "out", flag)
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text('{"stages": ')
    with pytest.raises(CheckpointError, match=r"progress.json cannot be read"):
        SeriesProgress.load(tmp_path)
