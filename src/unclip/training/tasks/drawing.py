"""Previews that a run draws."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.diffusion import (
    Denoiser,
    DiscreteSchedule,
    bind,
    clip_x0,
    get_sampler,
    make_schedule,
    self_condition,
    time_grid,
)
from unclip.images import from_uint8, grid, to_pil
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.runtime import NoiseSource

StageConfig = PriorConfig | DecoderConfig | UpsamplerConfig
NUM_STEPS = 16
# Standardised embeddings further out are noise; pixels lie in [-1, 1].
EMBEDDING_BOUND, PIXEL_BOUND = 10.0, 1.0


def bounded(
    network: nn.Module, model: StageConfig, schedule: DiscreteSchedule, conditioning: Mapping[str, Tensor | None]
) -> Denoiser:
    """The network's predictions, x0 held in the stage's range."""
    denoiser = bind(network, schedule, model.prediction_type, conditioning, learns_variance(model))
    return clip_x0(denoiser, EMBEDDING_BOUND if isinstance(model, PriorConfig) else PIXEL_BOUND)


def learns_variance(model: StageConfig) -> bool:
    """Whether the network predicts the variance of a step too; priors do not."""
    return not isinstance(model, PriorConfig) and model.learned_variance


@torch.no_grad()
def draw(
    network: nn.Module,
    model: StageConfig,
    schedule: DiscreteSchedule,
    conditioning: Mapping[str, Tensor | None],
    noise: Tensor,
) -> Tensor:
    """A sample for each row of `noise`, in 16 steps of DPM-Solver++ without guidance."""
    if not isinstance(model, UpsamplerConfig) and model.self_conditioning:
        denoiser = self_condition(
            lambda x0: bounded(network, model, schedule, {**conditioning, "self_condition": x0}), schedule
        )
    else:
        denoiser = bounded(network, model, schedule, conditioning)
    *_, last = get_sampler("dpm++").sample(denoiser, noise, time_grid(schedule, NUM_STEPS), None)
    return last.x_t


COLUMNS = 12


def preview_grid(
    network: nn.Module,
    model: DecoderConfig | UpsamplerConfig,
    conditioning: Mapping[str, Tensor],
    real: np.ndarray,
    device: torch.device,
) -> Image.Image:
    """`real` (uint8, batch first) in the odd rows, samples for `conditioning` in the rows below."""
    schedule = make_schedule(model.schedule, model.num_timesteps)
    noise = NoiseSource.from_seeds(range(len(real)))((3, *real.shape[1:3]), device)
    drawn = draw(network, model, schedule, conditioning, noise)
    pairs = to_pil(from_uint8(np.asarray(real))), to_pil(drawn)
    columns = min(COLUMNS, len(real))
    rows = []
    for first in range(0, len(real), columns):
        for pictures in pairs:
            row = pictures[first : first + columns]
            rows += row + [Image.new("RGB", row[0].size, "white")] * (columns - len(row))
    return grid(rows, columns)
