"""Named training recipes. Knows which settings work; not how training is done."""

from unclip.recipes.choose import Circumstances, choose, planned_minutes
from unclip.recipes.names import RECIPES, frozen_clip, get_recipe, num_pictures
from unclip.recipes.quickstart import Quickstart, quickstart
from unclip.recipes.series import SERIES, Series, assemble, train_series
from unclip.recipes.smoke import prepare_smoke
from unclip.recipes.stages import Progress, Spent, Stage, train_stages

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
