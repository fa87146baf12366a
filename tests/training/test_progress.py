"""Progress of a run: it recovers from a step that was no number, and it never costs the run."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from short_runs import ALONE
from unclip.training import Feed, Position, TrainConfig, make_task, train
from unclip.training.logging import Reporter, StepReport


def report(step: int, loss: float, skipped: float = 0.0) -> StepReport:
    return StepReport(step, 8 * step, loss, {"skipped": skipped}, 0.1)


def test_a_loss_that_was_no_number_is_counted_and_forgotten(
    prior: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(prior, Position(), None)
    reporter.last_line = -1e9
    reporter.step(report(1, float("nan"), 1.0))
    assert "loss not finite" in capsys.readouterr().err
    reporter.step(report(2, 2.0))
    reporter.step(report(3, float("inf"), 1.0))
    assert f"step 3  24 images  loss {2.0:.4f}" in capsys.readouterr().err
    feed = Feed(make_task(prior, ALONE.device).samples, prior, ALONE)
    reporter.damaged(["one", "one", "two"])
    reporter.end(Position(3, 24), tmp_path, feed)
    *_, weights, skipped, held_out = capsys.readouterr().err.splitlines()
    assert weights.endswith(f"24 images in 3 steps; the averaged weights are in {tmp_path / 'prior.safetensors'}")
    assert skipped.endswith("skipped 2 samples that could not be read and 2 steps that were not finite")
    assert held_out.endswith("trained on 16 samples, 0 held out (data.validation_share=0)")


def test_a_run_without_a_place_for_its_progress_goes_on(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = (tmp_path / "stderr").open("w")
    closed.close()
    # What a full disk refuses is refused once more when the file is closed.
    with suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:
        for number, stderr in enumerate([None, closed, full]):
            monkeypatch.setattr(sys, "stderr", stderr)
            assert train(prior, tmp_path / str(number), device="cpu").images_seen == 24
