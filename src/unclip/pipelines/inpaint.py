"""Inpainting: a part of a picture is painted anew and the rest stays. Knows the mask and the window; not the stages."""

from typing import Unpack

import torch
from PIL import Image, ImageOps
from torch import Tensor

from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.pictures import Picture, mask_of_alpha, on_white, open_mask, open_picture
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.painting import FEATHER, NUM_RESAMPLES, describe, embed, paint
from unclip.pipelines.result import Drawn, OutputType, Result
from unclip.pipelines.settings import check_count, check_prompts
from unclip.pipelines.windows import Box, window_around

__all__ = ["inpaint"]


@torch.no_grad()
def inpaint(
    model: Model,
    image: Picture,
    mask: Picture | None = None,
    prompt: str | None = None,
    num_images: int = 1,
    *,
    feather: int = FEATHER,
    num_resamples: int = NUM_RESAMPLES,
    **options: Unpack[DrawOptions],
) -> Result:
    """Paint the white part of `mask` anew, `num_images` times; every other pixel stays, bit for bit.

    `image` is a PIL picture or a path, of any size and shape, and so is the result, in RGB. `mask` is black and
    white and as large as the picture; without one, the transparent part of the picture is painted. The image
    embedding is that of `prompt`, by the prior, or what CLIP says of the whole picture where there is none.

    A window around the white part, half as large again, is brought to `image_size`, painted with what is known put
    back at every step of every stage, and brought back; a picture of just that size is not resized. The decoder
    makes each step `num_resamples` times, noising back in between (RePaint, algorithm 1). What was painted fades in
    over `feather` pixels inside the white part. A mask that is all black gives the picture back and nothing is
    drawn; one that is all white, on a picture of `image_size`, gives what `text_to_image`, or `image_variations`
    without a prompt, draws with the same seed and settings, to the bit.

    Raises `InputError` for a mask of another size or without black and white, for a picture without transparency
    and no mask, and as `text_to_image`.
    """
    check_count("feather", feather, least=0)
    check_count("num_resamples", num_resamples)
    prompts = None if prompt is None else check_prompts(prompt)
    picture = open_picture(image)
    missing = _missing(picture, mask)
    picture, bounds = on_white(picture), missing.getbbox()
    job = begin(model, options, num_images=num_images, uses_prior=prompt is not None)
    embeddings, features = embed(job, prompt if bounds else None, picture)

    if bounds is None:
        images: list[Drawn] = [[picture.copy() for _ in batch.seeds] for batch in job.batches]
    else:
        box = window_around(bounds, picture.size, job.chain.size[::-1])
        windows = [[picture.crop(box)] * len(batch.seeds) for batch in job.batches]
        known = ImageOps.invert(missing).crop(box)
        painted = paint(
            job, embeddings, features.condition, windows, known, feather=feather, num_resamples=num_resamples
        )
        images = [_insert(picture, batch, box, job.output_type) for batch in painted]
    return job.result(images, embeddings, features.cut, prompts, **describe(job, prompt, feather, num_resamples))


def _missing(picture: Image.Image, mask: Picture | None) -> Image.Image:
    """White where to paint, at the size of the picture."""
    if mask is not None:
        return open_mask(mask, picture.size)
    missing = mask_of_alpha(picture)
    if missing is None:
        raise InputError("there is no mask, and nothing in the picture is transparent; give a mask.")
    return missing


def _insert(picture: Image.Image, windows: Tensor, box: Box, output_type: OutputType) -> Drawn:
    """Copies of the picture, one for each window, which stands in it at `box`; what sticks out is cut off."""
    left, top = box[:2]
    if output_type == "pil":
        copies = [picture.copy() for _ in windows]
        for copy, window in zip(copies, to_pil(windows), strict=True):
            copy.paste(window, (left, top))
        return copies
    whole, (height, width) = from_pil([picture] * len(windows)), windows.shape[-2:]
    inside = windows[..., max(-top, 0) : picture.height - top, max(-left, 0) : picture.width - left]
    whole[..., max(top, 0) : top + height, max(left, 0) : left + width] = inside
    return whole
