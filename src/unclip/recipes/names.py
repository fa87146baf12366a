"""The table of recipes. Knows their names; not how training is done."""

from collections.abc import Callable

from unclip.errors import InputError, did_you_mean
from unclip.recipes import emoji
from unclip.training import TrainConfig

__all__ = ["RECIPES", "get_recipe"]

RECIPES: dict[str, Callable[..., TrainConfig]] = {
    "emoji/clip": emoji.clip,
    "emoji/prior": emoji.prior,
    "emoji/decoder": emoji.decoder,
    "emoji/upsampler_256": emoji.upsampler_256,
    "emoji/upsampler_1024": emoji.upsampler_1024,
}


def get_recipe(name: str, smoke: bool = False) -> TrainConfig:
    """The recipe called `name`; its `smoke` variant trains a tiny model for seconds. Raises `InputError`."""
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name](smoke=smoke)
