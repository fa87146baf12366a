"""Progress of a run: a bar on a terminal, plain lines elsewhere. Knows reports; not how a step is made."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unclip.progress import on_terminal, say
from unclip.training.config import TrainConfig
from unclip.training.feed import Feed
from unclip.training.log import StepReport
from unclip.training.state import Position

__all__ = ["Reporter"]

LINE_SECONDS = 15.0


class Reporter:
    """Shows images seen, loss, images per second and the time left."""

    def __init__(self, config: TrainConfig, position: Position, minutes: float | None, *, quiet: bool = False) -> None:
        self.config, self.quiet = config, quiet
        self.named: set[str] = set()
        self.skipped_steps = 0
        self.start = position.images_seen
        self.started = time.monotonic()
        self.budget = None if minutes is None else 60.0 * minutes
        self.average: float | None = None
        self.last_line = 0.0
        self.bar = self._make_bar() if on_terminal() and not quiet else None

    def step(self, report: StepReport) -> None:
        """Show one step."""
        if self.quiet:
            return
        self.skipped_steps += bool(report.metrics.get("skipped"))
        if math.isfinite(report.loss):
            self.average = report.loss if self.average is None else 0.98 * self.average + 0.02 * report.loss
        elapsed = time.monotonic() - self.started
        rate = (report.images_seen - self.start) / elapsed
        loss = "not finite" if self.average is None else f"{self.average:.4f}"
        text = f"loss {loss}  {rate:.1f} images/s  {_clock(self._left(report, rate, elapsed))} left"
        if self.bar is not None:
            progress, task = self.bar
            progress.update(task, completed=report.images_seen, description=f"{self.config.name}  {text}")
        elif elapsed - self.last_line >= LINE_SECONDS or report.images_seen == self.config.num_images:
            self.last_line = elapsed
            self.warn(f"step {report.step}  {report.images_seen:,} images  {text}")

    def note(self, text: str) -> None:
        """Show one line between steps."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Show one line between steps, also in processes that are quiet: what they alone know."""
        say(f"{self.config.name}  {text}")

    def damaged(self, names: Sequence[str]) -> None:
        """Name samples that could not be read, each once; every process names its own."""
        for name in names:
            if name not in self.named:
                self.named.add(name)
                self.warn(f"skipped a sample: {name}")

    def end(self, position: Position, out: Path, feed: Feed) -> None:
        """Show what came of a run: where its weights are, what was skipped, and what was held out."""
        path = out / f"{self.config.stage}.safetensors"
        self.note(f"{position.images_seen:,} images in {position.step:,} steps; the averaged weights are in {path}")
        skipped = {"samples that could not be read": len(self.named), "steps that were not finite": self.skipped_steps}
        if any(skipped.values()):
            self.note("skipped " + " and ".join(f"{number} {what}" for what, number in skipped.items() if number))
        trained, apart = len(feed.trained_on), len(feed.samples.source.keys) - len(feed.trained_on)
        share = f"data.validation_share={self.config.data.validation_share:g}"
        self.note(f"trained on {trained:,} samples, {apart:,} held out ({share})")

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            with suppress(OSError, ValueError):  # a terminal that is gone takes nothing, and costs no run
                self.bar[0].stop()

    def _left(self, report: StepReport, rate: float, elapsed: float) -> float:
        left = (self.config.num_images - report.images_seen) / rate
        return left if self.budget is None else min(left, self.budget - elapsed)

    def _make_bar(self) -> tuple[Any, Any]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        progress = Progress(*columns, console=Console(stderr=True))
        with suppress(OSError, ValueError):
            progress.start()
        return progress, progress.add_task(self.config.name, total=self.config.num_images, completed=self.start)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
