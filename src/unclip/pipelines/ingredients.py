"""Inputs that are a text or a picture, and the image embeddings of both. Knows the prior of a job; no task."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unclip.errors import InputError
from unclip.pictures import open_pictures
from unclip.pipelines.features import Features, encode
from unclip.pipelines.job import Batch, Job
from unclip.pipelines.model import Model
from unclip.pipelines.settings import check_prompts

TextOrPicture: TypeAlias = Image.Image | Path | str | np.ndarray
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


class Ingredient(NamedTuple):
    """A text, or a picture that was opened."""

    name: str
    """The text, or what the picture's file is called."""
    picture: Image.Image | None = None

    @property
    def text(self) -> str:
        """What it says; a picture says nothing."""
        return self.name if self.picture is None else ""


def read_ingredient(given: TextOrPicture) -> Ingredient:
    """Read a picture or a text.

    A PIL image, an array and a path are pictures; so is a text that names a file which is there, and any other is a
    text.

    Raises `InputError` for a file that is no picture, for an empty text, and for a text that ends as the name of a
    picture does where there is no such file.
    """
    if isinstance(given, Image.Image | np.ndarray):
        return Ingredient("a picture", open_pictures(given)[0])
    if isinstance(given, Path) or (isinstance(given, str) and os.path.isfile(given)):
        return Ingredient(Path(given).name, open_pictures(given)[0])
    (text,) = check_prompts([given])
    if text.lower().endswith(PICTURE_SUFFIXES):
        raise InputError(
            f"{text} is called like a picture, but there is no such file; give one that is there, or a text."
        )
    return Ingredient(text)


def encode_ingredients(model: Model, ingredients: Sequence[Ingredient]) -> Features:
    """Features with a row of text for each ingredient, empty for pictures, and an embedding for each picture."""
    pictures = [ingredient.picture for ingredient in ingredients if ingredient.picture is not None]
    return encode(model, [ingredient.text for ingredient in ingredients], pictures)


def embed_ingredients(
    job: Job, features: Features, ingredients: Sequence[Ingredient], num_candidates: int
) -> list[Float[Tensor, "ingredients _batch dim"]]:
    """For each batch, the image embedding of every ingredient: CLIP's of a picture, the prior's of a text.

    Each text is imagined from the noise that it would be alone with, and the batch's own noise goes on after one of
    them: so what one ingredient gives does not depend on the others.
    """
    texts = [row for row, ingredient in enumerate(ingredients) if ingredient.text]
    batches = [
        Batch([row] * len(batch.rows), batch.seeds, batch.noise if row == texts[-1] else batch.noise.copy())
        for batch in job.batches
        for row in texts
    ]
    imagined = iter(replace(job, batches=batches).imagine(features, num_candidates) if texts else [])

    def embed(batch: Batch) -> Tensor:
        seen = iter(features.pictures)
        rows = len(batch.rows)
        found = [next(imagined) if one.text else next(seen).expand(rows, -1) for one in ingredients]
        return torch.stack(found)

    return [embed(batch) for batch in job.batches]
