"""Named training recipes, series of them, and the quickstart."""

from unclip.recipes.choose import Circumstances, choose, planned_minutes
from unclip.recipes.quickstart import Quickstart, quickstart
from unclip.recipes.series import (
    RECIPES,
    SERIES,
    Series,
    SeriesProgress,
    StageProgress,
    TrainingStage,
    assemble,
    frozen_clip,
    get_recipe,
    num_pictures,
    train_series,
    train_stages,
)
from unclip.recipes.smoke import prepare_smoke

__all__ = [
    "RECIPES",
    "SERIES",
    "Circumstances",
    "Quickstart",
    "Series",
    "SeriesProgress",
    "StageProgress",
    "TrainingStage",
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
