"""Outpainting: a picture goes on beyond its borders, window by window. Knows the canvas; not the stages."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Unpack

import torch
from PIL import Image

from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pictures import MAX_PIXELS, Picture, on_white, open_picture
from unclip.pipelines.chain import show_size
from unclip.pipelines.job import Job, begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_count, check_prompts
from unclip.pipelines.tasks.painting import (
    FEATHER,
    NUM_RESAMPLES,
    Box,
    describe,
    embed,
    open_editable,
    paint,
    recolour,
    windows_outward,
)

MAX_WINDOWS = 10_000


class Margins(NamedTuple):
    """Pixels by which a picture grows."""

    left: int
    top: int
    right: int
    bottom: int


@torch.no_grad()
def outpaint(
    model: Model,
    image: Picture,
    prompt: str | None = None,
    num_images: int = 1,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    aspect: tuple[int, int] | None = None,
    window: int | None = None,
    feather: int = FEATHER,
    num_resamples: int = NUM_RESAMPLES,
    **options: Unpack[DrawOptions],
) -> Result:
    """Paint what lies beyond the borders of a picture, `num_images` times; the picture itself stays, bit for bit.

    The result has the picture's own mode, as for `inpaint`; what was painted is opaque.
    It grows by `left`, `right`, `top` and `bottom` pixels, or to the `aspect` (width, height), by as much on both
    sides. Squares of `window` pixels are painted as by `inpaint`, outward from the picture, each half over what is
    there already: memory is that of one window and the pictures in 8 bits. By default a window is as large as the
    picture's shorter side, or as what the model draws where that is larger and the canvas has room. All windows
    are told the same: the embedding of `prompt`, or of what CLIP says of the picture.

    Raises `InputError` where there is nothing to extend, for a canvas of more than 2^27 pixels or 10,000 windows,
    for a `window` that does not fit the canvas, for an `image_size` that is not square, and as `text_to_image`.
    """
    check_count("feather", feather, least=0)
    check_count("num_resamples", num_resamples)
    prompts = None if prompt is None else check_prompts(prompt)
    original = open_editable(image)
    picture = on_white(open_picture(original))
    margins = _margins(picture.size, Margins(left, top, right, bottom), aspect)
    job = begin(model, options, num_images=num_images, uses_prior=prompt is not None)
    size, placed = _canvas(picture.size, margins)
    side = _window_side(job, picture.size, size, window)
    boxes = list(_needed(size, placed, windows_outward(size, placed, side)))

    embeddings, features = embed(job, prompt, picture)
    canvases = [[_extended(picture, size, placed) for _ in batch.seeds] for batch in job.batches]
    known = _known(size, placed)
    for index, box in enumerate(boxes):
        windows = [[canvas.crop(box) for canvas in batch] for batch in canvases]
        painted = paint(
            _part(job, index, len(boxes)),
            embeddings,
            features.condition,
            windows,
            known.crop(box),
            feather=feather,
            num_resamples=num_resamples,
        )
        for batch, images in zip(canvases, painted, strict=True):
            for canvas, image in zip(batch, to_pil(images), strict=True):
                canvas.paste(image, box)
        known.paste(255, box)
    settings = margins._asdict() | {"window": side} | describe(job, prompt, feather, num_resamples)
    if job.output_type == "pil":
        canvases = [[_beyond(original, canvas, placed) for canvas in batch] for batch in canvases]
    return job.result(canvases, embeddings, features.cut, prompts, **settings)


def _margins(picture: tuple[int, int], given: Margins, aspect: tuple[int, int] | None) -> Margins:
    """How far to go on each side; raises `InputError` where that is nowhere or makes no sense."""
    for side, pixels in given._asdict().items():
        check_count(side, pixels, least=0)
    if aspect is not None and any(given):
        raise InputError("aspect and pixels were both given; say how far to extend by one of them.")
    margins = given if aspect is None else _margins_to(picture, aspect)
    if not any(margins):
        wanted = f"aspect={aspect!r} is the picture's own" if aspect else "left, right, top and bottom are all 0"
        raise InputError(f"there is nothing to extend: {wanted}; give a side some pixels, or another aspect.")
    return margins


def _margins_to(picture: tuple[int, int], aspect: tuple[int, int]) -> Margins:
    """What brings the picture to width:height, half of it on each of two sides."""
    sides = aspect if isinstance(aspect, tuple | list) else (aspect,)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(
            f"aspect={aspect!r} is not possible; give two whole numbers, (width, height), such as (16, 9)."
        )
    (width, height), (across, down) = picture, sides
    # To the nearest pixel, in whole numbers: floats overflow for absurd ones.
    more_width = max((2 * height * across + down) // (2 * down) - width, 0)
    more_height = max((2 * width * down + across) // (2 * across) - height, 0)
    return Margins(more_width // 2, more_height // 2, -(-more_width // 2), -(-more_height // 2))


def _canvas(picture: tuple[int, int], margins: Margins) -> tuple[tuple[int, int], Box]:
    """The size of the canvas, and where on it the picture lies."""
    width, height = margins.left + picture[0] + margins.right, margins.top + picture[1] + margins.bottom
    if width * height > MAX_PIXELS:
        raise InputError(f"a canvas of {width}x{height} has more than {MAX_PIXELS} pixels; extend less.")
    return (width, height), (margins.left, margins.top, margins.left + picture[0], margins.top + picture[1])


def _window_side(job: Job, picture: tuple[int, int], canvas: tuple[int, int], window: int | None) -> int:
    """The side of the windows: what was asked for, else as in `UnClip.outpaint`."""
    height, width = job.chain.size
    if height != width:
        raise InputError(f"image_size={show_size((width, height))}: outpainting draws squares; give one side.")
    side = max(min(picture), min(*canvas, width)) if window is None else check_count("window", window)
    if side > min(canvas):
        raise InputError(f"window={side} does not fit the canvas of {show_size(canvas)}; give at most {min(canvas)}.")
    count = math.prod(length // max(side // 2, 1) + 2 for length in canvas)
    if count > MAX_WINDOWS:
        raise InputError(f"a canvas of {show_size(canvas)} takes {count} windows of {side} px; give a larger window.")
    return side


def _needed(size: tuple[int, int], placed: Box, boxes: Iterable[Box]) -> Iterator[Box]:
    """Those windows in which something is missing when their turn comes."""
    known = _known(size, placed)
    for box in boxes:
        if known.crop(box).getextrema() != (255, 255):
            yield box
            known.paste(255, box)


def _known(size: tuple[int, int], placed: Box) -> Image.Image:
    """White where there is something."""
    known = Image.new("L", size)
    known.paste(255, placed)
    return known


def _extended(picture: Image.Image, size: tuple[int, int], placed: Box) -> Image.Image:
    canvas = Image.new("RGB", size)
    canvas.paste(picture, placed)
    return canvas


def _beyond(original: Image.Image, canvas: Image.Image, placed: Box) -> Image.Image:
    """The painted canvas in the mode of the original, which stands in it as it is."""
    whole = recolour(canvas, original)
    whole.info = dict(original.info)
    whole.paste(original, placed)
    return whole


def _part(job: Job, index: int, count: int) -> Job:
    """The job for one window of `count`: progress goes on from window to window."""

    def report(stage: str, done: int, total: int) -> None:
        job.progress(stage, index * total + done, count * total)

    return dataclasses.replace(job, progress=report)
