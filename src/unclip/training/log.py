"""What a run writes beside its weights: `log.jsonl`, TensorBoard events, sample grids. Knows no task and no loop."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unclip.errors import InputError
from unclip.images import save_png

__all__ = ["RunLog", "StepReport"]


class StepReport(NamedTuple):
    """One optimiser step."""

    step: int
    images_seen: int
    loss: float
    metrics: Mapping[str, float]
    seconds: float


class RunLog:
    """Appends to `folder/log.jsonl`, one line a step, and mirrors the numbers to TensorBoard where that is installed.

    On resuming, lines after the checkpoint's step are dropped, so that each step stands there once.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"
        try:
            _truncate(self.path, resume_step)
            self.file = self.path.open("a")
            self.events = _tensorboard(folder, resume_step)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, report: StepReport) -> None:
        """Write one step; raises `InputError` when the disk is full."""
        line = {"step": report.step, "images_seen": report.images_seen, "loss": report.loss, **report.metrics}
        try:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        if self.events is not None:
            for name, value in {"loss": report.loss, **report.metrics}.items():
                self.events.add_scalar(name, value, report.images_seen)

    def picture(self, image: Image.Image, images_seen: int) -> None:
        """Write one sample grid to `folder/samples/`."""
        save_png(image, self.folder / "samples" / f"{images_seen:09d}.png")

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot write {self.path}: {error.strerror}; make room and give the same command again.")

    def close(self) -> None:
        """Flush and close both files."""
        self.file.close()
        if self.events is not None:
            self.events.close()


def _truncate(path: Path, step: int) -> None:
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))


def _tensorboard(folder: Path, step: int):  # type: ignore[no-untyped-def]  # SummaryWriter exists only with the extra
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)
