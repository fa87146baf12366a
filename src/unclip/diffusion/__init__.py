"""Diffusion: schedules, denoisers, losses, samplers and their wrappers; mathematics on tensors, without a network."""

from unclip.diffusion.ddim import ddim
from unclip.diffusion.ddpm import ddpm
from unclip.diffusion.denoiser import BoundDenoiser, Denoiser, bind
from unclip.diffusion.dpmpp_2m import dpmpp_2m
from unclip.diffusion.dpmpp_2m_sde import dpmpp_2m_sde
from unclip.diffusion.guidance import guide
from unclip.diffusion.heun import heun
from unclip.diffusion.inversion import invert
from unclip.diffusion.loss import Weighting, diffusion_loss, loss_weight
from unclip.diffusion.prediction import Prediction, PredictionType
from unclip.diffusion.process import add_noise, posterior, renoise, training_target
from unclip.diffusion.repaint import repaint
from unclip.diffusion.sampler import Sampler, SamplerSpec, SamplerStep
from unclip.diffusion.samplers import SAMPLERS, get_sampler
from unclip.diffusion.schedules import (
    CosineSchedule,
    DiscreteSchedule,
    NoiseSchedule,
    ScheduleName,
    cosine_schedule,
    half_log_snr,
    linear_schedule,
    make_schedule,
)
from unclip.diffusion.slerp import slerp, weighted_mean
from unclip.diffusion.tiling import Region, Tiling, tiled
from unclip.diffusion.time_grid import Spacing, time_grid, times_from
from unclip.diffusion.wrappers import (
    clip_x0,
    dynamic_threshold,
    estimate_x0,
    hand_over,
    keep_known,
    self_condition,
    start_known,
)

__all__ = [
    "SAMPLERS",
    "BoundDenoiser",
    "CosineSchedule",
    "Denoiser",
    "DiscreteSchedule",
    "NoiseSchedule",
    "Prediction",
    "PredictionType",
    "Region",
    "Sampler",
    "SamplerSpec",
    "SamplerStep",
    "ScheduleName",
    "Spacing",
    "Tiling",
    "Weighting",
    "add_noise",
    "bind",
    "clip_x0",
    "cosine_schedule",
    "ddim",
    "ddpm",
    "diffusion_loss",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dynamic_threshold",
    "estimate_x0",
    "get_sampler",
    "guide",
    "half_log_snr",
    "hand_over",
    "heun",
    "invert",
    "keep_known",
    "linear_schedule",
    "loss_weight",
    "make_schedule",
    "posterior",
    "renoise",
    "repaint",
    "self_condition",
    "slerp",
    "start_known",
    "tiled",
    "time_grid",
    "times_from",
    "training_target",
    "weighted_mean",
]
