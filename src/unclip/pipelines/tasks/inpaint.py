"""Inpainting: a part of a picture is painted anew and the rest stays. Knows the mask and the window; not the stages."""

from typing import Annotated, Literal, Unpack

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.pictures import Picture, on_white, open_picture
from unclip.pipelines.description import task
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumImages, Option
from unclip.pipelines.result import Drawn, Result
from unclip.pipelines.settings import check_count, check_prompts
from unclip.pipelines.tasks.painting import (
    Box,
    Feather,
    MaskPicture,
    NumResamples,
    describe,
    embed,
    insert,
    mask_of_alpha,
    open_editable,
    open_mask,
    paint,
    window_around,
)


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
    (`open_editable`): what was painted is opaque, and all else has its values, alpha and what it hides included.

    `mask` is as large as the picture. By `mask_kind` "white" its white part is painted and its black stays; by "alpha"
    what is more than half transparent is painted, as OpenAI has it. None tells them apart, and refuses a mask that can
    be read in both ways. Without a mask the transparent part of the picture is painted. `settings["painted"]` has the
    share of the picture that is. The image embedding is that of `prompt`, by the prior, or what CLIP says of the whole
    picture where there is none.

    A window around the hole, half as large again, is brought to `image_size`, painted with what is known put back at
    every step of every stage, and brought back; a picture of just that size is not resized. The decoder makes each step
    `num_resamples` times, noising back in between (RePaint, algorithm 1). What was painted fades in over `feather`
    pixels inside the hole. A mask that selects nothing gives the picture back and nothing is drawn; one that selects
    all, on a picture of `image_size`, gives what `text_to_image`, or `image_variations` without a prompt, draws with
    the same seed and settings, to the bit.

    Raises `InputError` for a mask of another size, of two meanings or of none, for a picture without transparency and
    no mask, and as `text_to_image`.
    """
    check_count("feather", feather, least=0)
    check_count("num_resamples", num_resamples)
    prompts = None if prompt is None else check_prompts(prompt)
    original = open_editable(image)
    picture = open_picture(original)
    missing, kind = _missing(picture, mask, mask_kind)
    picture, bounds = on_white(picture), missing.getbbox()
    job = begin(model, options, num_images=num_images, uses_prior=prompt is not None)
    embeddings, features = embed(job, prompt if bounds else None, picture)

    if bounds is None:
        unchanged = original if job.output_type == "pil" else picture
        images: list[Drawn] = [[unchanged.copy() for _ in batch.seeds] for batch in job.batches]
    else:
        box = window_around(bounds, picture.size, job.chain.size[::-1])
        windows = [[picture.crop(box)] * len(batch.seeds) for batch in job.batches]
        hole, known = missing.crop(box), ImageOps.invert(missing).crop(box)
        painted = paint(
            job, embeddings, features.condition, windows, known, feather=feather, num_resamples=num_resamples
        )
        if job.output_type == "pil":
            images = [[insert(original, window, hole, box[:2]) for window in to_pil(batch)] for batch in painted]
        else:
            images = [_insert(picture, batch, box) for batch in painted]
    share = {"mask_kind": kind, "painted": float(np.mean(np.asarray(missing) > 0))}
    return job.result(
        images, embeddings, features.cut, prompts, **share, **describe(job, prompt, feather, num_resamples)
    )


def _missing(picture: Image.Image, mask: Picture | None, kind: str | None) -> MaskPicture:
    """White where to paint, at the size of the picture."""
    if mask is not None:
        return open_mask(mask, picture.size, kind)
    if kind not in (None, "alpha"):
        raise InputError(f"mask_kind={kind!r} (--mask-is) is how to read a mask, and none was given; give one.")
    missing = mask_of_alpha(picture)
    if missing is None:
        raise InputError("there is no mask, and nothing in the picture is transparent; give a mask.")
    return MaskPicture(missing, "alpha")


def _insert(picture: Image.Image, windows: Tensor, box: Box) -> Tensor:
    """The picture as numbers, once for each window, which stands in it at `box`; what sticks out is cut off."""
    left, top = box[:2]
    whole, (height, width) = from_pil([picture] * len(windows)), windows.shape[-2:]
    inside = windows[..., max(-top, 0) : picture.height - top, max(-left, 0) : picture.width - left]
    whole[..., max(top, 0) : top + height, max(left, 0) : left + width] = inside
    return whole
