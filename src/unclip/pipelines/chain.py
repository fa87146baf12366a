"""From a wanted size to the stages that draw it. Knows stages and their sizes; draws nothing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from unclip.errors import InputError
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.model import Model
from unclip.pipelines.options import ImageSize
from unclip.pipelines.upsampler import UpsamplerStage


class Chain(NamedTuple):
    """The upsamplers after the decoder, and the (height, width) of what it and each of them makes."""

    upsamplers: list[UpsamplerStage]
    sizes: list[tuple[int, int]]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures in the end."""
        return self.sizes[-1]


def chain_to(model: Model, image_size: ImageSize | None) -> Chain:
    """The stages for pictures of `image_size`: a side, or (width, height); None is the model's own.

    A picture that is not square goes through the stages of the square that is nearest in area. Raises `InputError` for
    a side that the model does not draw, and for a shape that its networks do not divide.
    """
    decoder, sizes = model.need_decoder, model.image_sizes
    wanted = image_size if image_size is not None else model.image_size or sizes[-1]
    width, height = width_and_height(wanted)
    side = min(sizes, key=lambda size: abs(math.log(width * height / size**2)))
    upsamplers = [model.upsamplers[size] for size in sizes[1:] if size <= side]
    stages: list[DecoderStage | UpsamplerStage] = [decoder, *upsamplers]
    if width == height and width not in sizes:
        allowed, multiple = ", ".join(map(str, sizes)), _multiple(stages, side)
        raise InputError(
            f"image_size={width} is not one that the model {model.name!r} draws; use one of: {allowed}; or, near "
            f"{side}, another shape whose sides are divisible by {multiple}, such as {side + multiple}x{side}."
        )
    _check_divisible(wanted, stages, side)
    made = [(height * stage.image_size // side, width * stage.image_size // side) for stage in stages]
    return Chain(upsamplers, made)


def show_size(image_size: ImageSize) -> str:
    """A size as people write it: 256, or 384x256."""
    return "x".join(map(str, image_size)) if isinstance(image_size, tuple) else str(image_size)


def width_and_height(image_size: object) -> tuple[int, int]:
    """(width, height) of a side or a pair; raises `InputError` where it is neither."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise InputError(f"image_size={image_size!r} is no size; give a side in pixels, or (width, height).")
    return sides[0], sides[1]


def _multiple(stages: Sequence[DecoderStage | UpsamplerStage], side: int) -> int:
    """What both sides of a picture are divisible by that goes through the stages of `side`."""
    return math.lcm(*(stage.size_multiple * (side // stage.image_size) for stage in stages))


def _check_divisible(image_size: ImageSize, stages: Sequence[DecoderStage | UpsamplerStage], side: int) -> None:
    multiple = _multiple(stages, side)
    width, height = width_and_height(image_size)
    if width % multiple or height % multiple:
        near = [max(round(side / multiple), 1) * multiple for side in (width, height)]
        raise InputError(
            f"image_size={show_size(image_size)} has a side that is not divisible by {multiple}, as the model's "
            f"networks need it; use {near[0]}x{near[1]}."
        )
