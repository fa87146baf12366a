"""The log of a run, the trackers that mirror it, and its progress on stderr."""

import abc
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unclip.errors import TrainingError, optional_module
from unclip.files import atomic_write
from unclip.images import save_png
from unclip.progress import on_terminal, say
from unclip.training.config import TrackerName, TrainConfig
from unclip.training.feed import Feed
from unclip.training.state import Position, os_errors

PROJECT, ID_FILE = "unclip", "wandb-run-id"
LINE_SECONDS = 15.0
"""Seconds between lines of progress where stderr is no terminal."""


class StepReport(NamedTuple):
    """One optimiser step."""

    step: int
    images_seen: int
    loss: float
    metrics: Mapping[str, float]
    seconds: float
    skipped: tuple[str, ...] = ()
    """Samples that this process could not read, with the reason."""


class RunLog:
    """Appends to `folder/log.jsonl`, one line a step, and mirrors numbers and pictures to the named trackers.

    On resuming, lines after the checkpoint's step are dropped, so that each step stands there once. Notes, settings and
    errors are those of `open_trackers`.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int,
        trackers: Sequence[TrackerName] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.step = folder, resume_step
        self.path = folder / "log.jsonl"
        if "wandb" in trackers:
            optional_module("wandb", "trackers=wandb")  # before anything is written
        with self._writing():
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= resume_step]
            images_seen = int(json.loads(kept[-1])["images_seen"]) if kept else 0
            atomic_write(self.path, "".join(line + "\n" for line in kept))
            self.trackers, self.notes = open_trackers(trackers, folder, images_seen, settings or {})
            self.file = self.path.open("a")

    def write(self, report: StepReport) -> None:
        """Write one step; raises `InputError` when the disk is full."""
        self.step = report.step
        numbers = {"loss": report.loss, **report.metrics}
        line: dict[str, Any] = {"step": report.step, "images_seen": report.images_seen, **numbers}
        if report.skipped:
            # Not called "skipped", which is the metric that says whether the step was.
            line["damaged"] = report.skipped
        with self._writing():
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        for tracker in self.trackers:
            tracker.log(numbers, report.step, report.images_seen)

    def picture(self, image: Image.Image, images_seen: int) -> None:
        """Write one sample grid to `folder/samples/`."""
        save_png(image, self.folder / "samples" / f"{images_seen:09d}.png")
        for tracker in self.trackers:
            tracker.log({}, self.step, images_seen, image)

    def close(self) -> None:
        self.file.close()
        for tracker in self.trackers:
            tracker.close()

    def _writing(self) -> AbstractContextManager[None]:
        return os_errors(f"cannot write {self.path}", "make room and give the same command again")


class Tracker(abc.ABC):
    """One service that mirrors a run."""

    @abc.abstractmethod
    def log(self, values: Mapping[str, float], step: int, images_seen: int, grid: Image.Image | None = None) -> None:
        """Show numbers by name, and a grid of samples; steps never fall, but one may have several calls."""

    @abc.abstractmethod
    def close(self) -> None:
        """Flush and close everything."""


def open_trackers(
    names: Sequence[TrackerName], folder: Path, images_seen: int, settings: Mapping[str, Any]
) -> tuple[list[Tracker], list[str]]:
    """Open the trackers called `names` for the run in `folder`, which resumes after `images_seen` images.

    Returns them, and a note for a missing TensorBoard. `settings` is what Weights & Biases shows as the run's
    configuration; its `name` is the run's. Raises `DependencyError` for a missing Weights & Biases, and `TrainingError`
    for one that does not start.
    """
    trackers: list[Tracker] = []
    notes: list[str] = []
    for name in dict.fromkeys(names):
        try:
            trackers.append(
                WandbTracker(folder, settings) if name == "wandb" else TensorboardTracker(folder, images_seen)
            )
        except ImportError:
            notes.append("tensorboard is not installed, so log.jsonl is all there is; pip install 'unclip[train]'.")
    return trackers, notes


class TensorboardTracker(Tracker):
    """Event files in `folder/tensorboard`; on resuming, events after the checkpoint are hidden."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen + 1)

    def log(self, values: Mapping[str, float], step: int, images_seen: int, grid: Image.Image | None = None) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, images_seen)
        if grid is not None:
            self.writer.add_image("samples", np.asarray(grid.convert("RGB")), images_seen, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandbTracker(Tracker):
    """A run of Weights & Biases, files in `folder/wandb`; the id in `folder` makes a resumed run the same run.

    WANDB_MODE and the other variables of wandb apply. Steps that a resumed run makes again are dropped there, being
    equal.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.wandb: Any = optional_module("wandb", "trackers=wandb")
        id_file = folder / ID_FILE
        if not id_file.exists():
            atomic_write(id_file, uuid.uuid4().hex)
        try:
            self.run = self.wandb.init(
                project=PROJECT,
                name=str(settings.get("name", folder.name)),
                id=id_file.read_text().strip(),
                resume="allow",
                dir=str(folder),
                config=dict(settings),
                settings=self.wandb.Settings(silent=True, console="off"),
            )
        except self.wandb.Error as error:
            raise TrainingError(
                f"Weights & Biases does not start ({error}); log in with `wandb login`, set WANDB_MODE=offline, or "
                "leave wandb out of trackers."
            ) from None
        self.run.define_metric("images_seen")
        self.run.define_metric("*", step_metric="images_seen")

    def log(self, values: Mapping[str, float], step: int, images_seen: int, grid: Image.Image | None = None) -> None:
        samples = {} if grid is None else {"samples": self.wandb.Image(grid)}
        self.run.log({**values, **samples, "images_seen": images_seen}, step=step)

    def close(self) -> None:
        self.run.finish()


class Reporter:
    """Shows images seen, loss, images per second and the time left."""

    def __init__(self, config: TrainConfig, position: Position, minutes: float | None, *, quiet: bool = False) -> None:
        self.config, self.quiet = config, quiet
        self.damaged_samples: set[str] = set()
        self.skipped_steps = 0
        self.start, self.started = position.images_seen, time.monotonic()
        self.budget = math.inf if minutes is None else 60.0 * minutes
        self.average: float | None = None
        self.last_line = 0.0
        self.bar: tuple[Any, Any] | None = None
        if on_terminal() and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            progress = Progress(*columns, console=Console(stderr=True))
            with suppress(OSError, ValueError):
                progress.start()
            self.bar = progress, progress.add_task(config.name, total=config.num_images, completed=self.start)

    def step(self, report: StepReport) -> None:
        if self.quiet:
            return
        self.skipped_steps += bool(report.metrics.get("skipped"))
        if math.isfinite(report.loss):
            self.average = report.loss if self.average is None else 0.98 * self.average + 0.02 * report.loss
        elapsed = time.monotonic() - self.started
        rate = (report.images_seen - self.start) / elapsed
        left = int(max(0.0, min((self.config.num_images - report.images_seen) / rate, self.budget - elapsed)))
        loss = "not finite" if self.average is None else f"{self.average:.4f}"
        clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        text = f"loss {loss}  {rate:.1f} images/s  {clock} left"
        if self.bar is not None:
            progress, task = self.bar
            progress.update(task, completed=report.images_seen, description=f"{self.config.name}  {text}")
        elif elapsed - self.last_line >= LINE_SECONDS or report.images_seen == self.config.num_images:
            self.last_line = elapsed
            self._say(f"step {report.step}  {report.images_seen:,} images  {text}")

    def note(self, *texts: str) -> None:
        for text in () if self.quiet else texts:
            self._say(text)

    def damaged(self, names: Sequence[str]) -> None:
        """Name samples that could not be read, each once; every process, also a quiet one, names its own."""
        for name in names:
            if name not in self.damaged_samples:
                self.damaged_samples.add(name)
                self._say(f"skipped a sample: {name}")

    def end(self, position: Position, out: Path, feed: Feed) -> None:
        """Show the result of a run: where its weights are, what was skipped, and what was held out."""
        path = out / f"{self.config.stage}.safetensors"
        self.note(f"{position.images_seen:,} images in {position.step:,} steps; the averaged weights are in {path}")
        counts = {
            "samples that could not be read": len(self.damaged_samples),
            "steps that were not finite": self.skipped_steps,
        }
        skipped = [f"{count} {what}" for what, count in counts.items() if count]
        if skipped:
            self.note("skipped " + " and ".join(skipped))
        num_trained, num_samples = len(feed.trained_on), len(feed.samples.source.keys)
        share = f"data.validation_share={self.config.data.validation_share:g}"
        self.note(f"trained on {num_trained:,} samples, {num_samples - num_trained:,} held out ({share})")

    def close(self) -> None:
        if self.bar is not None:
            with suppress(OSError, ValueError):  # a terminal that is gone costs no run
                self.bar[0].stop()

    def _say(self, text: str) -> None:
        say(f"{self.config.name}  {text}")
