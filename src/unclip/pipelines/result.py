"""What a task hands back. Knows pixels in three forms; not how they were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unclip.errors import InputError, did_you_mean
from unclip.images import from_pil, to_pil, to_unit
from unclip.shapes import Embeddings

__all__ = ["Drawn", "OutputType", "Result", "check_output_type", "convert", "size_of"]

OutputType = Literal["pil", "np", "pt"]
Drawn: TypeAlias = Float[Tensor, "_ channels height width"] | Sequence[Image.Image]
"""Pictures that a task made, of one size: a batch in [-1, 1], or PIL pictures where they are large and of 8 bits.

Batches of one task may differ in length, so theirs has no name."""


@dataclass(frozen=True, eq=False)
class Result:
    """Pictures and what made them; lists have one entry per picture, prompt by prompt."""

    images: list[Any]
    """PIL pictures, float32 arrays (height, width, 3) in [0, 1], or float32 tensors (3, height, width) in [-1, 1]."""
    prompts: list[str]
    """The prompt of each picture."""
    seeds: list[int]
    """The seed of each picture."""
    image_embeddings: Embeddings | None
    """(pictures, dim): what the decoder drew, at the scale that it reads; None where it drew none."""
    settings: dict[str, Any]
    """Image size, number of candidates and the sampling settings of each stage, ready for JSON."""
    cut: list[str]
    """The end of each picture's prompt that was too long to be read; "" where all of it was."""


def check_output_type(output_type: str) -> None:
    """Raise `InputError` unless `output_type` is one there is."""
    if output_type not in get_args(OutputType):
        raise InputError(f"unknown output_type {output_type!r}; {did_you_mean(output_type, get_args(OutputType))}")


def convert(images: Drawn, output_type: OutputType) -> list[Image.Image] | list[np.ndarray] | list[Tensor]:
    """Pictures as a list of PIL pictures, arrays or tensors."""
    if not isinstance(images, Tensor):
        if output_type == "pil":
            return list(images)
        images = from_pil(images)
    if output_type == "pil":
        return to_pil(images)
    if output_type == "np":
        return list(to_unit(images))
    return list(images.float().clamp(-1.0, 1.0))


def size_of(images: Drawn) -> tuple[int, int]:
    """(width, height) of the pictures."""
    if isinstance(images, Tensor):
        height, width = images.shape[-2:]
        return width, height
    return images[0].size
