"""Paint a part of a picture anew; the rest stays, bit for bit."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Unpack

import numpy as np
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.pictures import Picture, on_white, open_picture
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumImages, Option, task
from unclip.pipelines.result import Drawn, Result
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

MaskKind = Literal["white", "alpha"]
"""What marks the hole in a mask: its white, or its transparent part."""
# Half as wide again as what is missing: room to see what it has to fit to.
CONTEXT = Fraction(3, 2)
# Levels of 255 that one colour may vary by, as lossy WebP makes it.
ONE_COLOUR = 16
# The least alpha of what is not part of a soft edge.
SOLID = 250


@task()
def inpaint(
    model: Model,
    image: Annotated[Picture, Option("The picture to paint in.", "picture")],
    mask: Annotated[
        Picture | None, Option("White, or transparent, where to paint; else the picture's clear part.", "mask")
    ] = None,
    prompt: Annotated[str | None, Option("What to paint; without it, the same.")] = None,
    num_images: NumImages = 1,
    *,
    mask_kind: Annotated[
        Literal["white", "alpha"] | None, Option("Paint by the mask's white or alpha; else by what it looks like.")
    ] = None,
    feather: Feather = 4,
    num_resamples: NumResamples = 2,
    **options: Unpack[DrawOptions],
) -> Result:
    """Paint a part of a picture anew, `num_images` times; every other pixel stays, bit for bit.

    `image` is a PIL picture or a path, of any size and shape, and so is the result, in the picture's own mode
    (`open_editable`): what was painted is opaque, and all else has its values, alpha and what it hides included. On a
    transparent background what was painted has alpha, and a picture without gets it, 255 where it was.

    `mask` is as large as the picture. By `mask_kind` "white" its white part is painted and its black stays; by "alpha"
    what is more than half transparent is painted, as OpenAI has it. None tells them apart, and refuses a mask that can
    be read in both ways. Without a mask the transparent part of the picture is painted. `settings["painted"]` has the
    share of the picture that is painted. The image embedding is sampled by the prior for `prompt`, or CLIP's of the
    whole picture where there is none.

    A window around the hole, half as large again, is brought to `image_size`, painted with what is known put back at
    every step of every stage, and brought back; a picture of just that size is not resized. The decoder makes each step
    `num_resamples` times, noising back in between (RePaint, algorithm 1). What was painted fades in over `feather`
    pixels inside the hole. A mask that selects nothing gives the picture back and nothing is drawn; one that selects
    all, on a picture of `image_size`, gives what `text_to_image`, or `image_variations` without a prompt, draws with
    the same seed and settings, to the bit.

    Raises `InputError` for a mask of another size, of two meanings or of none, for a picture without transparency and
    no mask, and as `text_to_image`.
    """
    prompts = None if prompt is None else check_prompts(prompt)
    original = open_editable(image)
    picture = open_picture(original)
    if mask is not None:
        hole, kind = open_mask(mask, picture.size, mask_kind)
    elif mask_kind not in (None, "alpha"):
        raise InputError(f"mask_kind={mask_kind!r} (--mask-is) is how to read a mask, and none was given; give one.")
    elif (transparent := mask_of_alpha(picture)) is not None:
        hole, kind = transparent, "alpha"
    else:
        raise InputError("there is no mask, and nothing in the picture is transparent; give a mask.")
    picture, bounds = on_white(picture) if model.channels == 3 else picture, hole.getbbox()
    job = begin(model, options, num_images=num_images, uses_prior=prompt is not None)
    embeddings, features = job.embed(prompts if bounds else None, [picture])

    # Straight colours cannot be recovered from a batch bit for bit.
    is_clear = job.background == "transparent"
    in_8_bits = job.output_type == "pil" or (job.output_type == "np" and is_clear)
    original = with_alpha(original) if is_clear else original
    if bounds is None:
        unchanged = original if in_8_bits else picture
        images: list[Drawn] = [[unchanged.copy() for _ in batch.seeds] for batch in job.batches]
    else:
        box = window_around(bounds, picture.size, job.chain.size[::-1])
        windows = [[picture.crop(box)] * len(batch.seeds) for batch in job.batches]
        known = ImageOps.invert(hole).crop(box)
        shown = dataclasses.replace(job, preview=in_the_whole(job, lambda _: picture, box, hole))
        painted = paint(
            shown,
            embeddings,
            features.condition,
            windows,
            known,
            feather=feather,
            num_resamples=num_resamples,
        )
        if in_8_bits:
            in_window = hole.crop(box)
            batches = [to_pil(batch, job.background) for batch in painted]
            images = [[insert(original, one, in_window, box[:2]) for one in batch] for batch in batches]
        else:
            images = [_insert_pixels(picture, batch, box) for batch in painted]
    settings = settings_of(job, prompt, feather, num_resamples)
    settings |= {"mask_kind": kind, "painted": float(np.mean(np.asarray(hole) > 0))}
    return job.result(images, embeddings, features.cut, prompts, **settings)


def window_around(missing: Box, picture: tuple[int, int], drawn: tuple[int, int]) -> Box:
    """Choose the window to paint `missing` in, of the shape of `drawn`; all sizes are (width, height).

    It is `CONTEXT` times as large as what is missing, but no smaller than `drawn` where the picture has room for that,
    and no larger than it takes to hold the picture; so a picture of the size `drawn` is its own window. It lies inside
    the picture on each axis that is long enough, and sticks out on both sides of one that is not.
    """
    spans = [(max(missing[axis] - 1, 0), min(missing[axis + 2] + 1, picture[axis])) for axis in (0, 1)]
    needed = max(Fraction(stop - start, side) for (start, stop), side in zip(spans, drawn, strict=True))
    fits = [Fraction(length, side) for length, side in zip(picture, drawn, strict=True)]
    scale = min(max(CONTEXT * needed, min(*fits, Fraction(1))), max(fits))
    width, height = (math.ceil(scale * side) for side in drawn)
    left, top = (
        place_window(*span, side, length) for span, side, length in zip(spans, (width, height), picture, strict=True)
    )
    return left, top, left + width, top + height


def insert(original: Image.Image, window: Image.Image, hole: Image.Image, corner: tuple[int, int]) -> Image.Image:
    """Copy an `open_editable` picture, with pixels as `recolour` takes them at `corner` where `hole` is white."""
    copy = original.copy()
    copy.paste(recolour(window, original), corner, hole.convert("1"))
    return copy


def _insert_pixels(picture: Image.Image, windows: Tensor, box: Box) -> Tensor:
    """Return the picture in [-1, 1], once with each window at `box`; what sticks out is cut off."""
    left, top = box[:2]
    whole, (height, width) = from_pil([picture] * len(windows), windows.shape[1]), windows.shape[-2:]
    inside = windows[..., max(-top, 0) : picture.height - top, max(-left, 0) : picture.width - left]
    whole[..., max(top, 0) : top + height, max(left, 0) : left + width] = inside
    return whole


def open_mask(source: Picture, size: tuple[int, int], kind: MaskKind | None = None) -> tuple[Image.Image, MaskKind]:
    """Read a mask for a picture of `size` (width, height) as mode L, 255 where to repaint, and return its kind too.

    By "white": greys, as soft edges have, go to the nearer of black and white, and what is transparent is kept. By
    "alpha": what is more than half transparent is repainted. Without `kind` a mask without transparent pixels marks by
    white. One with some marks by alpha, as OpenAI's do, where the rest is of one colour or a picture; where black and
    white stand beside them, both are possible and neither is guessed.

    Raises `InputError` for another size, for a mask that can be read in both ways, by white for a picture in its place
    (more than a quarter of midtones) and for one whose brightest grey is still dark, by alpha for one without.
    """
    name = "the mask" if not isinstance(source, str | Path) else f"the mask {source}"
    picture = open_picture(source)
    if picture.size != size:
        (width, height), (wanted_width, wanted_height) = picture.size, size
        raise InputError(
            f"{name} is {width} x {height} pixels and the picture {wanted_width} x {wanted_height}; resize the mask."
        )
    if (kind or _mask_kind(picture, name)) == "alpha":
        hole = mask_of_alpha(picture)
        if hole is None:
            raise InputError(
                f"{name} has nothing transparent, by which it is to be read; clear what to repaint, or paint it white "
                'on black and give mask_kind="white" (--mask-is white).'
            )
        return hole, "alpha"
    grey = picture.convert("L")
    if picture.mode == "RGBA":
        grey = ImageChops.multiply(grey, picture.getchannel("A"))
    values = np.asarray(grey)
    if _is_grey(values):
        raise InputError(f"{name} looks like a picture: more than a quarter of it is grey; paint white on black.")
    if 0 < values.max() < 128:
        raise InputError(f"{name} has no white: its brightest grey is {values.max()} of 255; make 255 what to repaint.")
    return _threshold(grey), "white"


def mask_of_alpha(picture: Image.Image) -> Image.Image | None:
    """Return a mask as `open_mask` of what is more than half transparent in a picture of `open_picture`, or None."""
    if picture.mode != "RGBA":
        return None
    mask = _threshold(ImageOps.invert(picture.getchannel("A")))
    return mask if mask.getbbox() else None


def _mask_kind(picture: Image.Image, name: str) -> MaskKind:
    if picture.mode == "RGB":
        return "white"
    pixels, greys = np.asarray(picture), np.asarray(picture.convert("L"))
    opaque, solid = pixels[..., 3] >= 128, pixels[..., 3] >= SOLID
    if opaque.all():
        return "white"
    if opaque.any():
        # Beside soft edges alone: there colours may be mixed with what stands in the hole, which nobody sees.
        looked_at = solid if solid.any() else opaque
        if np.ptp(pixels[looked_at], axis=0)[:3].max() <= ONE_COLOUR or _is_grey(greys[looked_at]):
            return "alpha"
    by_alpha, by_white = np.mean(~opaque), np.mean((greys >= 128) & opaque)
    raise InputError(
        f"{name} can be read in two ways: paint what is transparent ({by_alpha:.0%} of it), as OpenAI does, or what is "
        f'white ({by_white:.0%}); say which by mask_kind="alpha" or "white" (--mask-is alpha or white).'
    )


def _is_grey(values: np.ndarray) -> bool:
    return bool(np.mean((values >= 32) & (values < 224)) > 0.25)


def _threshold(grey: Image.Image) -> Image.Image:
    return grey.point([0] * 128 + [255] * 128)
