"""Inputs that are a text or a picture, and the image embeddings of both."""

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
    """The text, or the name of the picture's file."""
    picture: Image.Image | None = None

    @property
    def text(self) -> str:
        """The text; "" for a picture."""
        return self.name if self.picture is None else ""


def read_input(source: TextOrPicture) -> Input:
    """Read a picture or a text.

    A PIL image, an array and a path are pictures; so is a text that names an existing file, and any other is a text.

    Raises `InputError` for a file that is no picture, for an empty text, and for a text that ends as the name of a
    picture does where there is no such file.
    """
    if isinstance(source, Image.Image | np.ndarray):
        return Input("a picture", open_pictures(source)[0])
    if isinstance(source, Path) or (isinstance(source, str) and os.path.isfile(source)):
        return Input(Path(source).name, open_pictures(source)[0])
    (text,) = check_prompts([source])
    if text.lower().endswith(PICTURE_SUFFIXES):
        raise InputError(f"{text} is named like a picture, but there is no such file; give an existing one, or a text.")
    return Input(text)


def encode_inputs(model: Model, inputs: Sequence[Input]) -> Features:
    """Features with a row of text for each input, empty for pictures, and an embedding for each picture."""
    pictures = [each.picture for each in inputs if each.picture is not None]
    return encode(model, [each.text for each in inputs], pictures)


def embed_inputs(
    job: Job, features: Features, inputs: Sequence[Input], num_candidates: int
) -> list[Float[Tensor, "inputs _batch dim"]]:
    """For each batch, the image embedding of every input: CLIP's of a picture, the prior's of a text.

    The prior starts each text from the same noise, and the batch's own noise goes on after the last of them: so no
    embedding depends on the other inputs.
    """
    texts = [row for row, each in enumerate(inputs) if each.text]
    batches = [
        Batch([row] * len(batch.rows), batch.seeds, batch.noise if row == texts[-1] else batch.noise.copy())
        for batch in job.batches
        for row in texts
    ]
    of_texts = iter(replace(job, batches=batches).sample_prior(features, num_candidates) if texts else [])

    def embed(batch: Batch) -> Tensor:
        of_pictures = iter(features.pictures)
        rows = len(batch.rows)
        return torch.stack([next(of_texts) if each.text else next(of_pictures).expand(rows, -1) for each in inputs])

    return [embed(batch) for batch in job.batches]
