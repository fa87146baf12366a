"""A network under training as a sampler sees it. Knows networks and schedules; no data set and no loop."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unclip.diffusion import (
    Denoiser,
    DiscreteSchedule,
    bind,
    clip_x0,
    get_sampler,
    self_condition,
    time_grid,
)
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

__all__ = ["NUM_STEPS", "StageConfig", "bounded", "draw", "learns_variance"]

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
