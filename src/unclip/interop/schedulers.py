"""How a model is drawn from, read from the scheduler configs of diffusers. Knows no network."""

from collections.abc import Mapping
from typing import Any

from unclip.interop.unclip_configs import require

__all__ = ["ORIGINAL_SAMPLING", "kandinsky_sampling", "prior_sampling"]

ORIGINAL_SAMPLING: dict[str, dict[str, Any]] = {
    "prior": {"num_steps": 25, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 10.0},
    "decoder": {"num_steps": 50, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 2.0},
}
"""Sampling fields of Kandinsky by stage; the bounds on x0 are those in the original code of 2.1."""

_SCHEDULER_DEFAULTS = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "trained_betas": None,
    "prediction_type": "epsilon",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "sample_max_value": 1.0,
}
_DECODER_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "trained_betas": None,
    "prediction_type": "epsilon",
}


def kandinsky_sampling(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling fields from a decoder's scheduler config; raises `ConfigError` for another noise schedule."""
    name = scheduler.get("_class_name", "DDPMScheduler")
    found = _SCHEDULER_DEFAULTS | dict(scheduler)
    for option, allowed in _DECODER_SCHEDULER.items():
        require(name, option, found[option], allowed)
    sampler = "ddim" if name == "DDIMScheduler" else "ddpm"
    return ORIGINAL_SAMPLING["decoder"] | {"sampler": sampler, "x0_bound": _bound(found)}


def prior_sampling(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling fields from a prior's scheduler config; raises `ConfigError` for a prior that does not predict x0."""
    found = _SCHEDULER_DEFAULTS | dict(scheduler)
    require(scheduler.get("_class_name", "UnCLIPScheduler"), "prediction_type", found["prediction_type"], "sample")
    return ORIGINAL_SAMPLING["prior"] | {"x0_bound": _bound(found)}


def _bound(scheduler: Mapping[str, Any]) -> float | None:
    """Largest magnitude of x0; None where it is not bounded."""
    if scheduler["thresholding"] and scheduler["sample_max_value"] is not None:
        return float(scheduler["sample_max_value"])
    return float(scheduler["clip_sample_range"]) if scheduler["clip_sample"] else None
