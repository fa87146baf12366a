"""Upscale pictures of any size: the last upsampler sharpens an enlarged copy, block by block."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Unpack

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip.errors import InputError
from unclip.images import WHITE, Background, from_uint8, to_pil, to_uint8
from unclip.pictures import MAX_PIXELS, Picture, open_pictures, white_and_coverage
from unclip.pipelines.job import Chain, Job, begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import image_seeds
from unclip.pipelines.tasks.painting import Box
from unclip.pipelines.upsampler import UpsamplerStage
from unclip.runtime import NoiseSource

# Side of the part of a picture that is in memory as numbers; the rest waits in 8-bit colour.
BLOCK = 1024
# Pixels over which a block fades into those before it.
OVERLAP = 64
# What is enlarged around a block and cut off again, in pixels of the small picture: the reach of the bicubic kernel.
MARGIN = 3

Pixels = UInt8[np.ndarray, "_height _width channels"]


@task(unused=("image_size", "guidance_scale", "batch_size", "preview"))
def upscale(
    model: Model,
    images: Annotated[Picture | Sequence[Picture], Option("The picture, of any size and shape.", "picture")],
    size: Annotated[int | None, Option("Longer side in pixels; else by the upsampler's factor.", least=1)] = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Enlarge pictures of any shape until their longer side has `size` pixels (None: by the upsampler's factor).

    The model's last upsampler sharpens an enlarged copy, in as many passes as its factor asks for (paper, section 2.3).
    It works on blocks of 1024 pixels that fade into each other: of a whole picture only the 8-bit colours are in
    memory. Transparency becomes white, unless the model draws it and `background` is another. Of the options, `seed`,
    `num_steps`, `sampler`, `output_type`, `background` and `progress` apply. Raises `InputError` for what is no
    picture, a `size` that does not enlarge or makes more than 2^27 pixels, and a model without upsampler.
    """
    if options.get("image_size") is not None:
        raise InputError("upscale takes the longer side as size, not image_size.")
    stage, pictures = model.need_upsampler, open_pictures(images)
    layers = [white_and_coverage(picture)[: model.channels - 2] for picture in pictures]
    (seed,) = image_seeds(options.get("seed"), 1)
    # A batch for each picture, all with the same seed.
    separate = {**options, "seed": seed, "batch_size": 1}
    job = begin(model, separate, num_inputs=len(pictures), uses_decoder=False, chain=Chain([stage], []))
    plans = [plan_passes(picture.size, size, stage) for picture in pictures]
    num_blocks = sum(len(_blocks(pass_size)) for plan in plans for pass_size in plan)
    done, total = itertools.count(1), num_blocks * job.settings[stage.name].num_steps

    def count_step() -> None:
        job.progress(stage.name, next(done), total)

    with model.resident(stage):
        for index, (plan, batch) in enumerate(zip(plans, job.batches, strict=True)):
            for pass_size in plan:
                layers[index] = _enlarge(job, layers[index], pass_size, batch.noise, count_step)
    drawn = [[_join(one, job.background)] for one in layers]
    return job.result(drawn, None, {}, image_size=[list(plan[-1]) for plan in plans])


def plan_passes(picture: tuple[int, int], size: int | None, stage: UpsamplerStage) -> list[tuple[int, int]]:
    """Plan the (width, height) after each pass: by the network's own factor, and what remains in the last."""
    factor = stage.network.config.image_size / stage.network.config.low_res_size
    width, height = picture
    longer = max(picture)
    wanted = round(longer * factor) if size is None else size
    if wanted <= longer:
        raise InputError(f"size={wanted} does not enlarge a picture of {width} x {height} pixels; give more.")
    passes = max(math.ceil(math.log(wanted / longer, factor) - 1e-9), 1)
    sides = [longer * factor**number for number in range(1, passes)] + [wanted]
    plan = [(max(round(width * side / longer), 1), max(round(height * side / longer), 1)) for side in sides]
    if math.prod(plan[-1]) > MAX_PIXELS:
        raise InputError(f"size={wanted} makes {plan[-1][0]} x {plan[-1][1]} pixels; at most {MAX_PIXELS} can be.")
    return plan


def _blocks(size: tuple[int, int]) -> list[Box]:
    """Cover (width, height) by boxes of at most `BLOCK` pixels, row by row; neighbours share `OVERLAP` pixels."""
    columns, rows = (_cut_axis(length) for length in size)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _cut_axis(length: int) -> list[tuple[int, int]]:
    count = max(math.ceil((length - OVERLAP) / (BLOCK - OVERLAP)), 1)
    starts = [number * (length - OVERLAP) // count for number in range(count)]
    return [(start, end + OVERLAP) for start, end in itertools.pairwise([*starts, length - OVERLAP])]


def _enlarge(
    job: Job, layers: list[Image.Image], size: tuple[int, int], noise: NoiseSource, count_step: Callable[[], None]
) -> list[Image.Image]:
    """Enlarge RGB, and its coverage if there is one, to (width, height); each block has noise of its own, in turn."""
    (stage,) = job.chain.upsamplers
    canvas = np.zeros((size[1], size[0], job.model.channels), dtype=np.uint8)
    for box in _blocks(size):
        blurred = np.dstack([enlarge_part(layer, size, box) for layer in layers])
        height, width = blurred.shape[:2]
        grid = stage.size_multiple
        padded = np.pad(blurred, ((0, -height % grid), (0, -width % grid), (0, 0)), "edge")
        low_res = from_uint8(padded[None]).to(job.model.device)
        for step in stage.steps(low_res, noise, job.settings[stage.name], size=padded.shape[:2]):
            count_step()
            sharpened = step.x_t
        paste(canvas, box, to_uint8(sharpened)[0, :height, :width])
    whole = Image.fromarray(canvas)
    return [whole.convert("RGB"), *([whole.getchannel("A")] if whole.mode == "RGBA" else [])]


def _join(layers: list[Image.Image], background: Background) -> Image.Image:
    """Make one picture on its background of RGB on white and, if there is one, its coverage."""
    if len(layers) == 1 or background == WHITE:
        return layers[0]
    rgb, coverage = layers
    rgb.putalpha(coverage)
    pixels = np.asarray(rgb)
    # As numbers a strip at a time, like the blocks.
    strips = (from_uint8(pixels[None, top : top + BLOCK]) for top in range(0, len(pixels), BLOCK))
    return Image.fromarray(np.concatenate([np.asarray(to_pil(strip, background)[0]) for strip in strips]))


def enlarge_part(picture: Image.Image, size: tuple[int, int], box: Box) -> np.ndarray:
    """Return the part `box` of the whole picture resized to `size` (bicubic)."""
    across, down = size[0] / picture.width, size[1] / picture.height
    reach = (math.ceil(MARGIN * across), math.ceil(MARGIN * down))
    left, top = (max(box[axis] - reach[axis], 0) for axis in (0, 1))
    right, bottom = (min(box[axis + 2] + reach[axis], size[axis]) for axis in (0, 1))
    source = (left / across, top / down, right / across, bottom / down)
    whole = picture.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=source)
    return np.asarray(whole)[box[1] - top : box[3] - top, box[0] - left : box[2] - left]


def paste(canvas: Pixels, box: Box, block: Pixels) -> None:
    """Write a block; over its first pixels it fades in, where others were written before it."""
    left, top, right, bottom = box
    weight = (_rise(top, bottom)[:, None] * _rise(left, right))[..., None]
    region = canvas[top:bottom, left:right]
    region[:] = np.rint(region + weight * (block.astype(np.float32) - region)).astype(np.uint8)


def _rise(start: int, end: int) -> np.ndarray:
    steps = (np.arange(end - start, dtype=np.float32) + 0.5) / OVERLAP
    return np.ones_like(steps) if start == 0 else steps.clip(0.0, 1.0)
