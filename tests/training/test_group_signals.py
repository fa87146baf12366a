"""A signal to all processes of a run, those that fetch its batches too, as torchrun, Slurm and terminals send it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import finish, start
from unclip.training import TrainConfig

NUM_STEPS = 100_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_with_loader_processes_saves_after_a_signal_to_its_group(
    tiny_recipe: Callable[[str], TrainConfig], tmp_path: Path, number: signal.Signals
) -> None:
    config = tiny_recipe("emoji/prior")
    settings = {
        "data.folder": config.data.folder,
        "data.limit": "null",
        "data.num_workers": 1,
        "task.clip": config.task.clip,  # type: ignore[union-attr]  # a prior has one
        "num_images": 8 * NUM_STEPS,
        "checkpoint_images": 8 * NUM_STEPS,
    }
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["-m", "unclip", "train", "emoji/prior", "--smoke", "--device", "cpu", *changes, "--out", tmp_path]
    run = start(command, 1, start_new_session=True)
    log = tmp_path / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)
    os.killpg(run[0].pid, number)
    [(code, errors)] = finish(run)
    assert code == 0, errors
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert (tmp_path / f"checkpoint-{len(steps):08d}.safetensors").exists()
