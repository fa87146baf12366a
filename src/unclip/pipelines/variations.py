"""Variations of a picture: CLIP looks at it, the decoder draws what CLIP saw. Knows the stages of a model, no prior."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from PIL import Image, UnidentifiedImageError

from unclip.errors import InputError
from unclip.pipelines.features import encode
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result

__all__ = ["image_variations", "open_pictures"]

Picture = Image.Image | str | Path


@torch.inference_mode()
def image_variations(
    model: Model, images: Picture | Sequence[Picture], num_images: int = 1, **options: Unpack[DrawOptions]
) -> Result:
    """Draw `num_images` variations of each picture; see `UnClip.image_variations` for the arguments."""
    pictures = open_pictures(images)
    job = begin(model, options, num_inputs=len(pictures), num_images=num_images)
    features = encode(model, [""] * len(pictures), pictures)
    embeddings = [features.pictures[batch.rows] for batch in job.batches]
    return job.result(job.draw(embeddings, features.condition), embeddings)


def open_pictures(images: Picture | Sequence[Picture]) -> list[Image.Image]:
    """One picture or several, opened where paths are given; raises `InputError` for what is no picture."""
    given = list(images) if isinstance(images, list | tuple) else [images]
    if not given:
        raise InputError("no picture was given; give at least one.")
    return [_open(image) for image in given]


def _open(path: object) -> Image.Image:
    if isinstance(path, Image.Image):
        return path
    if not isinstance(path, str | Path):
        raise InputError(f"a picture is a PIL image or a path; found a {type(path).__name__}.")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read; give PNG, JPEG or WebP.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); give a whole picture that is there."
        ) from None
