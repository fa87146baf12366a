"""The table of recipes, and what a plan must know of their data. Knows their names; not how training is done."""

import math
from collections.abc import Callable

from unclip.clip import ClipConfig, clip_preset
from unclip.errors import InputError, did_you_mean
from unclip.recipes import cc3m, emoji, karlo, laion, paper
from unclip.training import ClipTaskConfig, DecoderTaskConfig, PriorTaskConfig, TrainConfig
from unclip.training.fit import stored_clip

RECIPES: dict[str, Callable[..., TrainConfig]] = {
    "emoji/clip": emoji.clip,
    "emoji/prior": emoji.prior,
    "emoji/decoder": emoji.decoder,
    "emoji/upsampler_256": emoji.upsampler_256,
    "emoji/upsampler_1024": emoji.upsampler_1024,
    "cc3m/prior": cc3m.prior,
    "cc3m/decoder": cc3m.decoder,
    "cc3m/upsampler_256": cc3m.upsampler_256,
    "laion/prior": laion.prior,
    "laion/decoder": laion.decoder,
    "laion/upsampler_256": laion.upsampler_256,
    "laion/upsampler_1024": laion.upsampler_1024,
    "karlo/prior": karlo.prior,
    "karlo/decoder": karlo.decoder,
    "karlo/upsampler_256": karlo.upsampler_256,
    "paper/clip": paper.clip,
    "paper/prior": paper.prior,
    "paper/decoder": paper.decoder,
    "paper/upsampler_256": paper.upsampler_256,
    "paper/upsampler_1024": paper.upsampler_1024,
}

_NUM_PICTURES = {
    "emoji": 13_235,
    "cc3m": cc3m.NUM_PICTURES,
    "laion": laion.NUM_PICTURES,
    "karlo": karlo.NUM_PICTURES,
    "paper": paper.NUM_PICTURES,
}


def get_recipe(name: str, smoke: bool = False) -> TrainConfig:
    """The recipe called `name`; its `smoke` variant trains a tiny model for seconds. Raises `InputError`."""
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name](smoke=smoke)


def num_pictures(name: str) -> int:
    """Pictures of the data set that the recipe called `name` is written for; raises `InputError` like `get_recipe`."""
    config = get_recipe(name)
    return math.ceil(_NUM_PICTURES[_series(config)] / config.data.every)


def frozen_clip(config: TrainConfig) -> ClipConfig | None:
    """The shape of the CLIP that a run computes features with: that in its folder, else what will be put there.

    That is the model of the series' own CLIP recipe, or the preset that the folder is named after. None where the task
    uses no CLIP, or where nothing says which.
    """
    if not isinstance(config.task, PriorTaskConfig | DecoderTaskConfig) or config.task.clip is None:
        return None
    return stored_clip(config.task.clip) or _series_clip(config) or _preset_clip(config.task.clip.name)


def _series_clip(config: TrainConfig) -> ClipConfig | None:
    recipe = RECIPES.get(f"{_series(config)}/clip")
    task = recipe().task if recipe is not None else None
    return task.model if isinstance(task, ClipTaskConfig) else None


def _preset_clip(name: str) -> ClipConfig | None:
    try:
        return clip_preset(name)
    except InputError:
        return None


def _series(config: TrainConfig) -> str:
    return config.name.split("/")[0]
