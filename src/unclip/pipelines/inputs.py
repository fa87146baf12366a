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


class Input(NamedTuple):
    """A text, or a picture that was opened."""

    name: str
    """The text, or what the picture's file is called."""
    picture: Image.Image | None = None

    @property
    def text(self) -> str:
        """What it says; a picture says nothing."""
        return self.name if self.picture is None else ""


def read_input(given: TextOrPicture) -> Input:
    """Read a picture or a text.

    A PIL image, an array and a path are pictures; so is a text that names a file which is there, and any other is a
    text.

    Raises `InputError` for a file that is no picture, for an empty text, and for a text that ends as the name of a
    picture does where there is no such file.
    """
    if isinstance(given, Image.Image | np.ndarray):
        return Input("a picture", open_pictures(given)[0])
    if isinstance(given, Path) or (isinstance(given, str) and os.path.isfile(given)):
        return Input(Path(given).name, open_pictures(given)[0])
    (text,) = check_prompts([given])
    if text.lower().endswith(PICTURE_SUFFIXES):
        raise InputError(
            f"{text} is called like a picture, but there is no such file; give one that is there, or a text."
        )
    return Input(text)


def encode_inputs(model: Model, inputs: Sequence[Input]) -> Features:
    """Features with a row of text for each one, empty for pictures, and an embedding for each picture."""
    pictures = [one.picture for one in inputs if one.picture is not None]
    return encode(model, [one.text for one in inputs], pictures)


def embed_inputs(
    job: Job, features: Features, inputs: Sequence[Input], num_candidates: int
) -> list[Float[Tensor, "inputs _batch dim"]]:
    """For each batch, the image embedding of every one: CLIP's of a picture, the prior's of a text.

    Each text is imagined from the noise that it would be alone with, and the batch's own noise goes on after one of
    them: so what one one gives does not depend on the others.
    """
    texts = [row for row, one in enumerate(inputs) if one.text]
    batches = [
        Batch([row] * len(batch.rows), batch.seeds, batch.noise if row == texts[-1] else batch.noise.copy())
        for batch in job.batches
        for row in texts
    ]
    imagined = iter(replace(job, batches=batches).sample_prior(features, num_candidates) if texts else [])

    def embed(batch: Batch) -> Tensor:
        seen = iter(features.pictures)
        rows = len(batch.rows)
        found = [next(imagined) if one.text else next(seen).expand(rows, -1) for one in inputs]
        return torch.stack(found)

    return [embed(batch) for batch in job.batches]
