"""From pictures back to the noise that each stage draws them from. Knows the stages of a job; no task."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion import SamplerStep, invert
from unclip.errors import InputError
from unclip.images import cover, from_pil
from unclip.pipelines.canvas import Canvas
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.features import Features
from unclip.pipelines.job import Job, run_steps
from unclip.pipelines.model import Model
from unclip.pipelines.sampling import expand_text, select_text, stage_times
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.shapes import Embeddings, Images, Sample

__all__ = [
    "INVERTIBLE",
    "check_invertible",
    "invert_pictures",
    "invert_stages",
    "invertible",
    "start_from",
]

# What draws back what was inverted: DDIM without guidance and clipping, which both lose what the picture was. Below
# sigma = 0.1 a network's error is larger than the noise, and would be taken for it: see `time_grid`.
INVERTIBLE: Mapping[str, Any] = {
    "sampler": "ddim",
    "eta": 0.0,
    "num_steps": 50,
    "guidance_scale": 1.0,
    "x0_bound": 1e4,
    "sigma_min": 0.1,
}
UPSAMPLER_STEPS = 10

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""


def invertible(model: Model, eta: float = 0.0) -> dict[str, dict[str, Any]]:
    """Settings of the decoder and every upsampler that draw back what was inverted, or vary it by `eta`."""
    upsampler = {**INVERTIBLE, "num_steps": UPSAMPLER_STEPS, "augmentation": 0.0, "eta": eta}
    return {"decoder": {**INVERTIBLE, "eta": eta}, **{stage.name: upsampler for stage in model.upsamplers.values()}}


def check_invertible(job: Job) -> None:
    """Raise `InputError` where a stage would be sampled by what does not go back the way that was climbed."""
    for stage, settings in job.settings.items():
        if stage != "prior" and settings.sampler != "ddim":
            raise InputError(
                f"sampler of {stage}={settings.sampler!r} does not lead back to a picture, whose noise is found by "
                "DDIM; use ddim, or leave the sampler out."
            )


# The x_T of unCLIP section 3.1.
def invert_pictures(job: Job, pictures: Sequence[Image.Image], embeddings: Embeddings, condition: Condition) -> Sample:
    """The x_T from which the decoder draws each picture under its embedding, without guidance; a row for each.

    Pictures are cut to the shape that is drawn; texts of `condition` have a row for each. Progress is reported as stage
    "inversion".
    """
    decoder, settings = job.model.need_decoder, job.settings["decoder"].replace(guidance_scale=1.0)
    times = stage_times(decoder.schedule, settings)

    def climb(rows: list[int]) -> Iterator[SamplerStep]:
        told = condition._replace(text=select_text(condition.text, rows))
        denoiser = decoder.denoiser(embeddings[rows], told, settings)
        return invert(denoiser, decoder.start(_see(job, pictures, rows, job.chain.sizes[0])), times)

    with job.model.resident(decoder):
        return _climb_all(job, "inversion", len(pictures), climb)


def invert_upsampler(
    job: Job, upsampler: UpsamplerStage, pictures: Sequence[Image.Image], small: Size, large: Size
) -> Sample:
    """The x_T from which an upsampler draws each picture at its `large` size, given it at the `small` one."""
    settings = job.settings[upsampler.name]
    times = stage_times(upsampler.schedule, settings)

    def climb(rows: list[int]) -> Iterator[SamplerStep]:
        denoiser = upsampler.tiled_denoiser(_see(job, pictures, rows, small), large, settings)
        return invert(denoiser, _see(job, pictures, rows, large), times)

    with job.model.resident(upsampler):
        return _climb_all(job, f"inversion of {upsampler.name}", len(pictures), climb)


def invert_stages(job: Job, pictures: Sequence[Image.Image], features: Features) -> dict[str, Sample]:
    """The x_T of each stage by its name, a row for each picture; the decoder is told no text."""
    condition, sizes = features.condition, job.chain.sizes
    wordless = condition._replace(text=expand_text(condition.null, len(pictures)))
    found = {"decoder": invert_pictures(job, pictures, features.pictures, wordless)}
    for upsampler, (small, large) in zip(job.chain.upsamplers, itertools.pairwise(sizes), strict=True):
        found[upsampler.name] = invert_upsampler(job, upsampler, pictures, small, large)
    return found


def start_from(job: Job, x_T: Mapping[str, Sample]) -> dict[str, list[Canvas]]:
    """Canvases for the batches of a job; the x_T of a stage has a row for each input."""
    return {stage: [Canvas(x_T=noise[batch.rows]) for batch in job.batches] for stage, noise in x_T.items()}


def _climb_all(job: Job, stage: str, count: int, climb: Callable[[list[int]], Iterator[SamplerStep]]) -> Tensor:
    rows = [list(range(count))[first : first + job.batch_size] for first in range(0, count, job.batch_size)]
    return torch.cat(run_steps(stage, map(climb, rows), len(rows), job.report))


def _see(job: Job, pictures: Sequence[Image.Image], rows: list[int], size: Size) -> Images:
    """Pictures in [-1, 1], cut and scaled to (height, width)."""
    return from_pil([cover(pictures[row], size[::-1]) for row in rows]).to(job.model.device)
