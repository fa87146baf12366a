"""What a run writes beside its weights: `log.jsonl`, sample grids, and what trackers take. Knows no task, no loop."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.images import save_png
from unclip.training.trackers import TrackerName, open_trackers, require_trackers

__all__ = ["RunLog", "StepReport"]


class StepReport(NamedTuple):
    """One optimiser step."""

    step: int
    images_seen: int
    loss: float
    metrics: Mapping[str, float]
    seconds: float
    skipped: tuple[str, ...] = ()
    """Samples that this process could not read, with the reason."""

    def with_metrics(self, metrics: Mapping[str, float]) -> "StepReport":
        """The same step with more numbers."""
        return self._replace(metrics={**self.metrics, **metrics})


class RunLog:
    """Appends to `folder/log.jsonl`, one line a step, and mirrors numbers and pictures to the trackers called so.

    On resuming, lines after the checkpoint's step are dropped, so that each step stands there once. `notes` say what
    could not be opened. `settings` is the run's configuration, for trackers that show it. Raises as `open_trackers`.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int,
        trackers: Sequence[TrackerName] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"
        self.step = resume_step
        require_trackers(trackers)
        try:
            kept = _lines_until(self.path, resume_step)
            images_seen = int(json.loads(kept[-1])["images_seen"]) if kept else 0
            atomic_write(self.path, "".join(line + "\n" for line in kept))
            self.trackers, self.notes = open_trackers(trackers, folder, images_seen, settings)
            self.file = self.path.open("a")
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, report: StepReport) -> None:
        """Write one step; raises `InputError` when the disk is full."""
        self.step = report.step
        numbers = {"loss": report.loss, **report.metrics}
        line = {"step": report.step, "images_seen": report.images_seen, **numbers}
        # Under a name of its own: "skipped" among the numbers says whether the step was.
        damaged = {"damaged": report.skipped} if report.skipped else {}
        try:
            self.file.write(json.dumps(line | damaged) + "\n")
            self.file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        for tracker in self.trackers:
            tracker.scalars(numbers, report.step, report.images_seen)

    def picture(self, image: Image.Image, images_seen: int) -> None:
        """Write one sample grid to `folder/samples/`."""
        save_png(image, self.folder / "samples" / f"{images_seen:09d}.png")
        for tracker in self.trackers:
            tracker.picture(image, self.step, images_seen)

    def close(self) -> None:
        """Flush and close everything."""
        self.file.close()
        for tracker in self.trackers:
            tracker.close()

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot write {self.path}: {error.strerror}; make room and give the same command again.")


def _lines_until(path: Path, step: int) -> list[str]:
    """The whole lines of the log until `step`."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
