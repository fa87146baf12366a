"""Recipes trained one after the other into a model folder. Knows their order and time; not their settings."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from unclip.data import load_shards
from unclip.errors import InputError, did_you_mean
from unclip.pipelines import BASIS_FILE, Defaults, Model, UnClip
from unclip.recipes import emoji
from unclip.recipes.names import get_recipe
from unclip.training import DataConfig, TrainConfig, train

__all__ = ["SERIES", "Series", "assemble", "train_series"]


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
) -> Path:
    """Train every recipe of the series into `out/<stage>`, then join them to `out/model`, which is returned.

    `minutes` is shared among the recipes. The same call again resumes each of them, but for CLIP once another stage
    has been trained on its embeddings: those would no longer fit. Raises `InputError` for an unknown series.
    """
    if name not in SERIES:
        raise InputError(f"there is no series {name!r}; {did_you_mean(name, SERIES)}")
    out = Path(out)
    series = SERIES[name]
    for recipe, share in series.shares.items():
        folder = out / _stage(recipe)
        if recipe.endswith("/clip") and any((out / stage).exists() for stage in ("prior", "decoder")):
            print(f"{recipe}  left as it is: other stages were trained on it", file=sys.stderr)
            continue
        config = relocate(get_recipe(recipe, smoke), out)
        train(config, folder, minutes=None if minutes is None else share * minutes, device=device)
    folders = {_stage(recipe): out / _stage(recipe) for recipe in series.shares}
    model = assemble(name, folders, series.defaults, out / "model")
    fit_basis(model, relocate(get_recipe(next(iter(series.shares)), smoke), out).data)
    return model


def assemble(name: str, folders: Mapping[str, Path], defaults: Defaults, out: Path | str) -> Path:
    """Join trained stages to a model folder, stored as int8 per output channel; `folders` says where each stage is."""
    model = Model.assemble(name, folders, defaults, "cpu", torch.float32)
    UnClip(model).save(out, "int8")
    return Path(out)


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


def _stage(recipe: str) -> str:
    return recipe.split("/")[-1]
