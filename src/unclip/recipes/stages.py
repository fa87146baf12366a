"""Stages trained one after the other, each with its share of the time, and how far they are. Knows no settings."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import PositiveFloat

from unclip.config import Config, load_config
from unclip.errors import CheckpointError
from unclip.files import atomic_write
from unclip.progress import say
from unclip.training import StopFlag, TrainConfig, train

__all__ = ["Progress", "Spent", "Stage", "train_stages"]

PROGRESS_FILE = "progress.json"
LEAST = 0.25

Fit = Callable[["Stage", Path, float | None], TrainConfig]


class Stage(Config):
    """One stage of a model under training."""

    config: TrainConfig
    share: PositiveFloat
    """Of the time, in proportion to the other stages' shares."""

    @property
    def name(self) -> str:
        """What its folder and the model's file are called: `clip`, `prior`, `decoder`, `upsampler_256`."""
        return self.config.name.split("/")[-1]


class Spent(Config):
    """How far a stage is."""

    seconds: float = 0.0
    is_finished: bool = False
    """Whether it had its time or all its pictures; if not, it was interrupted."""


class Progress(Config):
    """How far the stages in a folder are, as `progress.json` keeps it."""

    stages: Mapping[str, Spent] = {}

    @classmethod
    def load(cls, out: Path) -> "Progress":
        """What the folder says; nothing is done yet where it says nothing. Raises `CheckpointError` when damaged."""
        path = out / PROGRESS_FILE
        if not path.exists():
            return cls()
        try:
            return load_config(cls, json.loads(path.read_text()))
        except ValueError as error:
            raise CheckpointError(f"{path} cannot be read ({error}); remove it, stages go on from theirs.") from None

    def of(self, name: str) -> Spent:
        """How far the stage called `name` is."""
        return self.stages.get(name, Spent())

    def after(self, name: str, seconds: float, is_finished: bool) -> "Progress":
        """The same after so many more seconds of one stage."""
        spent = Spent(seconds=self.of(name).seconds + seconds, is_finished=is_finished)
        return Progress(stages={**self.stages, name: spent})

    def save(self, out: Path) -> None:
        """Write it into the folder."""
        atomic_write(out / PROGRESS_FILE, self.model_dump_json(indent=2) + "\n")

    def seconds_for(self, stage: Stage, stages: Sequence[Stage], minutes: float) -> float:
        """What a stage has left: of the time that is not spent, its share among those that are not finished.

        Where earlier ones took too long it still gets a quarter of its share of the whole, as a stage that was not
        trained at all would spoil the others' work.
        """
        spent = sum(self.of(other.name).seconds for other in stages)
        unfinished = sum(other.share for other in stages if not self.of(other.name).is_finished)
        # What an interrupted stage has used is its own.
        own = self.of(stage.name).seconds
        planned = (60.0 * minutes - spent + own) * stage.share / unfinished
        least = LEAST * 60.0 * minutes * stage.share / sum(other.share for other in stages)
        return max(0.0, max(planned, least) - own)


def train_stages(
    stages: Sequence[Stage],
    out: Path,
    stopped: StopFlag,
    *,
    minutes: float | None = None,
    device: str = "auto",
    fit: Fit | None = None,
) -> bool:
    """Train each stage into `out/<its name>`; False where `stopped` ended it, saved, so that the same call goes on.

    Finished stages are left alone. `minutes` is shared among all stages; what one leaves is the later ones'. `fit` gets
    a stage, its folder and its seconds and returns the settings to train with.
    """
    progress = Progress.load(out)
    for stage in stages:
        if progress.of(stage.name).is_finished:
            say(f"{stage.config.name}  is trained already")
            continue
        if stopped:
            return False
        started = time.monotonic()
        seconds = None if minutes is None else progress.seconds_for(stage, stages, minutes)
        config = stage.config if fit is None else fit(stage, out / stage.name, seconds)
        # What measuring takes is never more than half.
        left = None if seconds is None else max(seconds / 2, seconds - (time.monotonic() - started)) / 60.0
        train(config, out / stage.name, minutes=left, device=device, stopped=stopped)
        progress = progress.after(stage.name, time.monotonic() - started, not stopped)
        progress.save(out)
    return not stopped
