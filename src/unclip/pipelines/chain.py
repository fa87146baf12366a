"""The stages that draw a picture of some size."""

import math
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
    width, height = width_and_height(model.image_size or sizes[-1] if image_size is None else image_size)
    side = min(sizes, key=lambda size: abs(math.log(width * height / size**2)))
    upsamplers = [model.upsampler_stages[size] for size in sizes[1:] if size <= side]
    stages: list[DecoderStage | UpsamplerStage] = [decoder, *upsamplers]
    multiple = math.lcm(*(stage.size_multiple * (side // stage.image_size) for stage in stages))
    if width == height and width not in sizes:
        raise InputError(
            f"image_size={width} is not one that the model {model.name!r} draws; use one of: "
            f"{', '.join(map(str, sizes))}; or, near {side}, another shape whose sides are divisible by {multiple}, "
            f"such as {side + multiple}x{side}."
        )
    check_divisible((width, height), multiple)
    return Chain(
        upsamplers, [(height * stage.image_size // side, width * stage.image_size // side) for stage in stages]
    )


def check_divisible(size: tuple[int, int], multiple: int) -> None:
    """Raise `InputError` unless both sides of (width, height) are divisible by `multiple`."""
    if any(side % multiple for side in size):
        near = tuple(max(round(side / multiple), 1) * multiple for side in size)
        raise InputError(
            f"image_size={show_size(size)} has a side that is not divisible by {multiple}, as the networks that draw "
            f"it require; use {show_size((near[0], near[1]))}."
        )


def show_size(image_size: ImageSize) -> str:
    """A size as people write it: 256, or 384x256."""
    return "x".join(map(str, image_size)) if isinstance(image_size, tuple) else str(image_size)


def width_and_height(image_size: object) -> tuple[int, int]:
    """(width, height) of a side or a pair; raises `InputError` where it is neither."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise InputError(f"image_size={image_size!r} is no size; give a side in pixels, or (width, height).")
    return sides[0], sides[1]
