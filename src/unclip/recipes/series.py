"""Series of stages trained one after another within a time budget."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from pydantic import PositiveFloat

from unclip.checkpoint import Storage
from unclip.config import Config, load_config
from unclip.data import load_shards
from unclip.errors import CheckpointError, InputError, did_you_mean
from unclip.files import atomic_write
from unclip.model import BASIS_FILE, Defaults
from unclip.pipelines import UnClip
from unclip.progress import say
from unclip.recipes import emoji
from unclip.recipes.names import get_recipe
from unclip.training import DataConfig, StopFlag, TrainConfig, stop_on_signal, train

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


class Series(NamedTuple):
    """Recipes in the order of their needs, each with its share of the time, and how the model is sampled."""

    shares: Mapping[str, float]
    defaults: Defaults


SERIES = {
    "emoji": Series(
        {
            "emoji/clip": 0.12,
            "emoji/upsampler_256": 0.12,
            "emoji/upsampler_1024": 0.16,
            "emoji/decoder": 0.42,
            "emoji/prior": 0.18,
        },
        emoji.DEFAULTS,
    )
}


def train_series(
    name: str, out: Path | str, *, minutes: float | None = None, smoke: bool = False, device: str = "auto"
) -> Path | None:
    """Train every recipe of the series into `out/<stage>`, then join them to `out/model`, which is returned.

    `minutes` is shared among the recipes. None is returned after SIGINT or SIGTERM: the same call goes on with the
    stage that was interrupted. After a whole round the same call begins another one, in which each recipe resumes, but
    for CLIP, since the other stages have been trained on its embeddings. Raises `InputError` for an unknown series.
    """
    if name not in SERIES:
        raise InputError(f"there is no series {name!r}; {did_you_mean(name, SERIES)}")
    out, series = Path(out), SERIES[name]
    configs = [relocate(get_recipe(recipe, smoke), out) for recipe in series.shares]
    stages = [Stage(config=config, share=series.shares[config.name]) for config in configs]
    with stop_on_signal() as stopped:
        if not train_stages(_round(stages, out), out, stopped, minutes=minutes, device=device):
            return None
    model = assemble(name, [stage.name for stage in stages], series.defaults, out)
    fit_basis(model, configs[0].data)
    return model


def assemble(name: str, stages: Sequence[str], defaults: Defaults, out: Path | str, storage: Storage = "int8") -> Path:
    """Join trained stages, each in its folder below `out`, to the model folder `out/model`, which is returned."""
    out = Path(out)
    folders = {stage: out / stage for stage in stages}
    UnClip.assemble(name, folders, defaults, "cpu", torch.float32).save(out / "model", storage)
    return out / "model"


def fit_basis(model: Path, data: DataConfig) -> None:
    """Put the principal components of the training pictures' embeddings into a model folder, for `probe`."""
    pipe = UnClip.load(model, "cpu")
    pictures = load_shards(data.folder, pipe.clip.clip.config.image_size).images
    pipe.fit_basis(Image.fromarray(pixels) for pixels in pictures).save(model / BASIS_FILE)


def relocate(config: TrainConfig, out: Path) -> TrainConfig:
    """The recipe with its data and its CLIP below `out`."""
    data = config.data.replace(folder=str(out / Path(config.data.folder).name))
    has_clip = "clip" in type(config.task).model_fields
    task = config.task.replace(clip=out / "clip") if has_clip else config.task
    return config.replace(data=data, task=task)


def _round(stages: Sequence[Stage], out: Path) -> list[Stage]:
    """The stages of this call: a round that was interrupted, or a new one, without a CLIP that others hang on."""
    others, progress = [stage for stage in stages if stage.name != "clip"], Progress.load(out)
    if all(progress.of(stage.name).is_finished for stage in others):
        progress = Progress()
        progress.save(out)
    if progress.of("clip").is_finished or not any((out / name).exists() for name in ("prior", "decoder")):
        return list(stages)
    say(f"{stages[0].config.name}  left as it is: other stages were trained on it")
    return others
