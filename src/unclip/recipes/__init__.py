"""Named training recipes, and series of them."""

from unclip.recipes.choose import Circumstances, choose, planned_minutes
from unclip.recipes.names import RECIPES, frozen_clip, get_recipe, num_pictures
from unclip.recipes.quickstart import Quickstart, quickstart
from unclip.recipes.series import SERIES, Progress, Series, Spent, Stage, assemble, train_series, train_stages
from unclip.recipes.smoke import prepare_smoke

__all__ = [
    "RECIPES",
    "SERIES",
    "Circumstances",
    "Progress",
    "Quickstart",
    "Series",
    "Spent",
    "Stage",
    "assemble",
    "choose",
    "frozen_clip",
    "get_recipe",
    "num_pictures",
    "planned_minutes",
    "prepare_smoke",
    "quickstart",
    "train_series",
    "train_stages",
]
