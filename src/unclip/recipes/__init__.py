"""Named training recipes. Knows which settings work; not how training is done."""

from unclip.recipes.names import RECIPES, get_recipe
from unclip.recipes.series import SERIES, Series, assemble, train_series

__all__ = ["RECIPES", "SERIES", "Series", "assemble", "get_recipe", "train_series"]
