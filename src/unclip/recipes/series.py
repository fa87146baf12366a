"""Recipes by name, and series of them that are trained one after another within a time budget."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import PositiveFloat

from unclip.checkpoint import Storage
from unclip.clip import ClipConfig, TextImageEncoder, clip_preset
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, InputError, did_you_mean
from unclip.files import atomic_write
from unclip.model import BASIS_FILE, Defaults, EmbeddingBasis
from unclip.pipelines import UnClip
from unclip.progress import say
from unclip.recipes import emoji, published
from unclip.recipes.smoke import shrink
from unclip.runtime import resolve_device
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    StopFlag,
    TrainConfig,
    stop_on_signal,
    train,
)
from unclip.training.fit import stored_clip
from unclip.training.precision import fastest_precision
from unclip.training.tasks.samples import embed_pictures, load_pictures

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "emoji/clip": emoji.clip,
    "emoji/autoencoder": emoji.autoencoder,
    "emoji/prior": emoji.prior,
    "emoji/decoder": emoji.decoder,
    "emoji/upsampler_256": emoji.upsampler_256,
    "emoji/upsampler_1024": emoji.upsampler_1024,
    **published.PUBLISHED,
}
PROGRESS_FILE = "progress.json"
MIN_SHARE = 0.25
"""Part of its share of the time that a stage gets even where earlier stages took too long."""


class Series(NamedTuple):
    """Recipes in the order of their needs, each with its share of the time, and how the model is sampled."""

    shares: Mapping[str, float]
    defaults: Defaults


SERIES = {
    "emoji": Series(
        {
            "emoji/clip": 0.25,
            "emoji/autoencoder": 0.1,
            "emoji/upsampler_256": 0.05,
            "emoji/upsampler_1024": 0.1,
            "emoji/decoder": 0.4,
            "emoji/prior": 0.1,
        },
        emoji.DEFAULTS,
    )
}


def get_recipe(name: str, smoke: bool = False) -> TrainConfig:
    """Return the recipe called `name`; its `smoke` variant trains a tiny model for seconds. Raises `InputError`."""
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; {did_you_mean(name, RECIPES)}")
    config = RECIPES[name]()
    if not smoke:
        return config
    # The emoji recipes keep the shipped model's picture sizes, so that their smoke series draws at 256 and 1024 px.
    return emoji.shrink(config) if name.startswith("emoji/") else shrink(config)


def num_pictures(name: str) -> int:
    """Count the pictures of the data set that a recipe is written for; raises `InputError` like `get_recipe`."""
    config = get_recipe(name)
    totals = {"emoji": emoji.NUM_PICTURES} | published.NUM_PICTURES
    return math.ceil((totals[name.split("/")[0]] + config.data.compositions) / config.data.every)


def frozen_clip(config: TrainConfig) -> ClipConfig | None:
    """Return the shape of the CLIP that a run computes features with, or None where none is used or it is unknown.

    It is the CLIP in the run's folder; without one the model of the series' own CLIP recipe, or the preset that the
    folder is named after.
    """
    if config.clip is None:
        return None
    if (shape := stored_clip(config.clip)) is not None:
        return shape
    if recipe := RECIPES.get(f"{config.name.split('/')[0]}/clip"):
        task = recipe().task
        assert isinstance(task, ClipTaskConfig), task
        return task.model
    try:
        return clip_preset(config.clip.name)
    except InputError:
        return None


class TrainingStage(Config):
    """One stage of a model under training."""

    config: TrainConfig
    share: PositiveFloat
    """Of the time, in proportion to the other stages' shares."""

    @property
    def name(self) -> str:
        """Name of the stage's folder and of the model's file: `clip`, `prior`, `decoder`, `upsampler_256`."""
        return self.config.name.split("/")[-1]


class StageProgress(Config):
    """How far one stage is."""

    seconds: float = 0.0
    is_finished: bool = False
    """Whether it had its time or all its pictures; if not, it was interrupted."""


class SeriesProgress(Config):
    """How far the stages in a folder are, as `progress.json` keeps it."""

    stages: Mapping[str, StageProgress] = {}

    @classmethod
    def load(cls, out: Path) -> "SeriesProgress":
        """Read the folder's `progress.json`; without one nothing is done yet. Raises `CheckpointError` when damaged."""
        path = out / PROGRESS_FILE
        if not path.exists():
            return cls()
        try:
            return load_config(cls, json.loads(path.read_text()))
        except ValueError as error:
            raise CheckpointError(f"{path} cannot be read ({error}); remove it: stages resume without it.") from None

    def of(self, name: str) -> StageProgress:
        """Return the progress of the stage called `name`."""
        return self.stages.get(name, StageProgress())

    def after(self, name: str, seconds: float, is_finished: bool) -> "SeriesProgress":
        """Return the progress after so many more seconds of one stage."""
        stage = StageProgress(seconds=self.of(name).seconds + seconds, is_finished=is_finished)
        return SeriesProgress(stages={**self.stages, name: stage})

    def save(self, out: Path) -> None:
        """Write `progress.json` into the folder."""
        atomic_write(out / PROGRESS_FILE, self.model_dump_json(indent=2) + "\n")

    def seconds_for(self, stage: TrainingStage, stages: Sequence[TrainingStage], minutes: float) -> float:
        """Return the seconds that a stage has left: its share, among unfinished stages, of the time that is not spent.

        Where earlier stages took too long it still gets a quarter of its share of the whole, since a stage that was not
        trained at all would spoil the others' work.
        """
        spent = sum(self.of(other.name).seconds for other in stages)
        unfinished = sum(other.share for other in stages if not self.of(other.name).is_finished)
        # What an interrupted stage has used counts as its own.
        used = self.of(stage.name).seconds
        planned = (60.0 * minutes - spent + used) * stage.share / unfinished
        least = MIN_SHARE * 60.0 * minutes * stage.share / sum(other.share for other in stages)
        return max(0.0, max(planned, least) - used)


FitStage = Callable[[TrainingStage, Path, float | None], TrainConfig]
"""Returns the settings to train with, from a stage, its folder and its seconds."""


def train_stages(
    stages: Sequence[TrainingStage],
    out: Path,
    stopped: StopFlag,
    *,
    minutes: float | None = None,
    device: str = "auto",
    fit: FitStage | None = None,
) -> bool:
    """Train each stage into `out/<its name>`; False if `stopped` ended it, saved, so that the same call resumes.

    Finished stages are skipped. `minutes` is shared among all stages; time that one leaves goes to the later ones.
    `fit` changes a stage's settings when it begins.
    """
    progress = SeriesProgress.load(out)
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


def train_series(
    name: str, out: Path | str, *, minutes: float | None = None, smoke: bool = False, device: str = "auto"
) -> Path | None:
    """Train every recipe of the series into `out/<stage>`, then join them to `out/model`, which is returned.

    `minutes` is shared among the recipes, which all train in the precision that the device is fastest in. None is
    returned after SIGINT or SIGTERM: the same call resumes the stage that was interrupted. After a whole round the same
    call begins another one, in which each recipe resumes, except CLIP and the autoencoder, since other stages have been
    trained on what they make. Raises `InputError` for an unknown series.
    """
    if name not in SERIES:
        raise InputError(f"there is no series {name!r}; {did_you_mean(name, SERIES)}")
    out, series = Path(out), SERIES[name]
    # A run goes on in the precision that it began in.
    runs = [out / recipe.split("/")[1] / "config.json" for recipe in series.shares]
    begun = next((json.loads(run.read_text())["precision"] for run in runs if run.exists()), None)
    precision = begun or fastest_precision(resolve_device(device))
    stages = []
    for recipe, share in series.shares.items():
        config = get_recipe(recipe, smoke)
        frozen = {part: out / part for part in ("clip", "autoencoder") if getattr(config.task, part, None) is not None}
        config = config.replace(task=config.task.replace(**frozen))
        data = config.data.replace(folder=str(out / Path(config.data.folder).name))
        stages.append(TrainingStage(config=config.replace(data=data, precision=precision), share=share))
    with stop_on_signal() as stopped:
        if not train_stages(_round(stages, out), out, stopped, minutes=minutes, device=device):
            return None
    model = assemble(name, [stage.name for stage in stages], series.defaults, out)
    fit_basis(model, stages[0].config.data)
    return model


FROZEN = {"clip": ("prior", "decoder"), "autoencoder": ("decoder",)}
"""Stages that others learn from, and those others."""


def _round(stages: Sequence[TrainingStage], out: Path) -> list[TrainingStage]:
    """Return the stages to train: of an interrupted round, or of a new one, without those that others depend on."""
    others, progress = [stage for stage in stages if stage.name not in FROZEN], SeriesProgress.load(out)
    if all(progress.of(stage.name).is_finished for stage in others):
        progress = SeriesProgress()
        progress.save(out)
    chosen = []
    for stage in stages:
        learners = [name for name in FROZEN.get(stage.name, ()) if (out / name).exists()]
        if learners and not progress.of(stage.name).is_finished:
            say(f"{stage.config.name}  left as it is: {' and '.join(learners)} were trained on it")
        else:
            chosen.append(stage)
    return chosen


def assemble(name: str, stages: Sequence[str], defaults: Defaults, out: Path | str, storage: Storage = "int8") -> Path:
    """Join trained stages, each in its folder below `out`, to the model folder `out/model`, which is returned."""
    out = Path(out)
    folders = {stage: out / stage for stage in stages}
    UnClip.assemble(name, folders, defaults, "cpu", torch.float32).save(out / "model", storage)
    return out / "model"


def fit_basis(model: Path, data: DataConfig) -> None:
    """Put the principal components of the training pictures' embeddings into a model folder, for `probe`."""
    # In float32: pipelines encode in float64, which is slow for thousands of pictures.
    encoder = TextImageEncoder.load(model)
    embeddings = embed_pictures(encoder, load_pictures(data, encoder.clip.config.image_size)).table
    assert embeddings is not None, "pictures are embedded in memory"
    EmbeddingBasis.fit(embeddings).save(model / BASIS_FILE)
