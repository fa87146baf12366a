"""Named training recipes. Knows which settings work; not how training is done."""

from unclip.recipes.names import RECIPES, frozen_clip, get_recipe, num_pictures
from unclip.recipes.series import SERIES, Series, assemble, train_series
from unclip.recipes.smoke import prepare_smoke

__all__ = [
    "RECIPES",
    "SERIES",
    "Series",
    "assemble",
    "frozen_clip",
    "get_recipe",
    "num_pictures",
    "prepare_smoke",
    "train_series",
]
