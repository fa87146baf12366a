"""Continue a picture beyond its borders, window by window; the picture itself stays, bit for bit."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias, Unpack

from PIL import Image, ImageOps

from unclip.errors import InputError
from unclip.images import Background, to_pil
from unclip.pictures import MAX_PIXELS, Picture, on_colour, on_white, open_picture
from unclip.pipelines.job import Job, begin, show_size
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumImages, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts
from unclip.pipelines.tasks.painting import (
    Box,
    Feather,
    NumResamples,
    in_the_whole,
    open_editable,
    paint,
    place_window,
    recolour,
    settings_of,
    with_alpha,
)

MAX_WINDOWS = 10_000
Margin = Annotated[int, Option("Pixels to add on this side.", least=0)]


Margins: TypeAlias = tuple[int, int, int, int]
"""Pixels by which a picture grows on the left, at the top, on the right and at the bottom."""


@task()
def outpaint(
    model: Model,
    image: Annotated[Picture, Option("The picture to continue.", "picture")],
    prompt: Annotated[str | None, Option("What the whole shows; without it, as in the picture.")] = None,
    num_images: NumImages = 1,
    *,
    left: Margin = 0,
    right: Margin = 0,
    top: Margin = 0,
    bottom: Margin = 0,
    aspect: Annotated[tuple[int, int] | None, Option("WIDTH:HEIGHT to extend to, such as 16:9.", "size")] = None,
    window: Annotated[int | None, Option("Side of the squares that are painted in turn.", least=1)] = None,
    feather: Feather = 4,
    num_resamples: NumResamples = 2,
    **options: Unpack[DrawOptions],
) -> Result:
    """Paint what lies beyond the borders of a picture, `num_images` times; the picture itself stays, bit for bit.

    The result has the picture's own mode, as for `inpaint`; what was painted is opaque, or has alpha on a transparent
    background.
    It grows by `left`, `right`, `top` and `bottom` pixels, or to the `aspect` (width, height), by as much on both
    sides. Squares of `window` pixels are painted as by `inpaint`, outward from the picture, each half over what is
    there already: memory is that of one window and the pictures in 8 bits. By default a window is as large as the
    picture's shorter side, or as what the model draws where that is larger and the canvas has room. All windows
    have the same image embedding: that of `prompt`, or what CLIP says of the picture.

    Raises `InputError` where there is nothing to extend, for a canvas of more than 2^27 pixels or 10,000 windows,
    for a `window` that does not fit the canvas, for an `image_size` that is not square, and as `text_to_image`.
    """
    prompts = None if prompt is None else check_prompts(prompt)
    original = open_editable(image)
    opened = open_picture(original)
    picture = on_white(opened) if model.channels == 3 else opened.convert("RGBA")
    left, top, right, bottom = _margins(picture.size, (left, top, right, bottom), aspect)
    job = begin(model, options, num_images=num_images, uses_prior=prompt is not None)
    size = left + picture.width + right, top + picture.height + bottom
    placed = left, top, left + picture.width, top + picture.height
    if math.prod(size) > MAX_PIXELS:
        raise InputError(f"a canvas of {show_size(size)} has more than {MAX_PIXELS} pixels; extend less.")
    side = _window_side(job, picture.size, size, window)
    known = ImageOps.expand(Image.new("L", picture.size, 255), (left, top, right, bottom))
    boxes = _unknown(known.copy(), windows_outward(size, placed, side))

    embeddings, features = job.embed(prompts, [picture])
    canvases = [[ImageOps.expand(picture, (left, top, right, bottom)) for _ in batch.seeds] for batch in job.batches]
    for index, box in enumerate(boxes):
        painted = paint(
            _of_window(job, index, boxes, list(itertools.chain(*canvases)), known),
            embeddings,
            features.condition,
            [[canvas.crop(box) for canvas in batch] for batch in canvases],
            known.crop(box),
            feather=feather,
            num_resamples=num_resamples,
        )
        for batch, images in zip(canvases, painted, strict=True):
            for canvas, window_image in zip(batch, to_pil(images, "transparent"), strict=True):
                canvas.paste(window_image, box)
        known.paste(255, box)
    if job.output_type == "pil":
        original = with_alpha(original) if job.background == "transparent" else original
        canvases = [[_around(original, canvas, placed, job.background) for canvas in batch] for batch in canvases]
    else:
        for canvas in (canvas for batch in canvases for canvas in batch):
            canvas.paste(picture, placed)  # colours that alpha hides are lost in a batch
    settings = {"left": left, "top": top, "right": right, "bottom": bottom, "window": side}
    settings |= settings_of(job, prompt, feather, num_resamples)
    return job.result(canvases, embeddings, features.cut, prompts, **settings)


def extended_size(
    size: tuple[int, int], *, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0,
    aspect: tuple[int, int] | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Return the width and height that `outpaint` gives a picture of this size; raises `InputError` as it does."""
    left, top, right, bottom = _margins(size, (left, top, right, bottom), aspect)
    return left + size[0] + right, top + size[1] + bottom


def _margins(picture: tuple[int, int], margins: Margins, aspect: tuple[int, int] | None) -> Margins:
    """Return the pixels to add on each side; raises `InputError` for none, and for two ways to say how many."""
    if aspect is not None and any(margins):
        raise InputError("aspect and pixels were both given; say how far to extend by one of them.")
    if aspect is not None:
        sides = aspect if isinstance(aspect, tuple | list) else (aspect,)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise InputError(
                f"aspect={aspect!r} is not possible; give two whole numbers, (width, height), such as (16, 9)."
            )
        (width, height), (across, down) = picture, sides
        # To the nearest pixel, in whole numbers: floats overflow for absurd ones.
        more_width = max((2 * height * across + down) // (2 * down) - width, 0)
        more_height = max((2 * width * down + across) // (2 * across) - height, 0)
        margins = more_width // 2, more_height // 2, -(-more_width // 2), -(-more_height // 2)
    if not any(margins):
        reason = f"aspect={aspect!r} is the picture's own" if aspect else "left, right, top and bottom are all 0"
        raise InputError(f"there is nothing to extend: {reason}; give a side some pixels, or another aspect.")
    return margins


def _window_side(job: Job, picture: tuple[int, int], canvas: tuple[int, int], window: int | None) -> int:
    """Return the side of the windows: `window`, else as `outpaint` says."""
    height, width = job.chain.size
    if height != width:
        raise InputError(f"image_size={show_size((width, height))}: outpainting draws squares; give one side.")
    side = window or max(min(picture), min(*canvas, width))
    if side > min(canvas):
        raise InputError(f"window={side} does not fit the canvas of {show_size(canvas)}; give at most {min(canvas)}.")
    count = math.prod(length // max(side // 2, 1) + 2 for length in canvas)
    if count > MAX_WINDOWS:
        raise InputError(f"a canvas of {show_size(canvas)} takes {count} windows of {side} px; give a larger window.")
    return side


def windows_outward(canvas: tuple[int, int], known: Box, side: int) -> list[Box]:
    """Choose squares inside the canvas that cover it, from `known` outward.

    Where `known` is no shorter than `side`, half of each or more is known or lies in earlier ones. `side` is no longer
    than the canvas's shorter side.
    """
    across, down = (_starts(canvas[axis], known[axis], known[axis + 2], side) for axis in (0, 1))
    order = sorted(
        (right + below, top, left) for (left, right), (top, below) in itertools.product(across.items(), down.items())
    )
    return [(left, top, left + side, top + side) for _, top, left in order]


def _starts(length: int, first: int, last: int, side: int) -> dict[int, int]:
    """Return the starts of windows on one axis, each with its turn; first to last is known."""
    span, middle, step = last - first, place_window(first, last, side, length), max(side // 2, 1)
    leftmost, rightmost = first, last - side
    if 2 * span < side:
        leftmost = rightmost = middle
    right, left = _even_steps(rightmost, length - side, step), _even_steps(leftmost, 0, step)
    turns = {min(max(start, 0), length - side): turn for chain in (right, left) for turn, start in enumerate(chain, 1)}
    if span >= side:
        return turns | dict.fromkeys([first, *_even_steps(first, last - side, step)], 0)
    # Around a picture somewhat smaller than itself a window has only slivers to paint: better the next ones paint them.
    return {middle: 0 if 2 * span < side else 2} | turns


def _even_steps(start: int, stop: int, step: int) -> list[int]:
    """Go from `start`, which is left out, to `stop` in even steps of `step` or less."""
    count = math.ceil(abs(stop - start) / step)
    return [start + (stop - start) * index // count for index in range(1, count + 1)]


def _unknown(known: Image.Image, boxes: list[Box]) -> list[Box]:
    """Return the windows in which something is missing when their turn comes; `known` is filled."""
    unknown = []
    for box in boxes:
        if known.crop(box).getextrema() != (255, 255):
            unknown.append(box)
            known.paste(255, box)
    return unknown


def _around(original: Image.Image, canvas: Image.Image, placed: Box, background: Background) -> Image.Image:
    """Return the painted canvas on its background in the mode of the original, with the original itself in place."""
    whole = recolour(canvas if background == "transparent" else on_colour(canvas, background), original)
    whole.info = dict(original.info)
    whole.paste(original, placed)
    return whole


def _of_window(
    job: Job, index: int, boxes: Sequence[Box], canvases: Sequence[Image.Image], known: Image.Image
) -> Job:  # fmt: skip
    """Return the job for one window: progress continues from window to window, previews show the canvases."""

    def progress(stage: str, done: int, total: int) -> None:
        job.progress(stage, index * total + done, len(boxes) * total)

    preview = in_the_whole(job, canvases.__getitem__, boxes[index], ImageOps.invert(known))
    return dataclasses.replace(job, progress=progress, preview=preview)
