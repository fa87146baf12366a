"""The scheduler configs of diffusers as our noise schedules and sampling settings, and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

from unclip.config import Config
from unclip.errors import ConfigError, did_you_mean
from unclip.interop.options import read_options, require
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

C = TypeVar("C", bound=Config)

ORIGINAL_SAMPLING: dict[str, dict[str, Any]] = {
    "prior": {"num_steps": 25, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 10.0},
    "decoder": {"num_steps": 50, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 2.0},
}
"""Sampling fields of Kandinsky by stage; the bounds on x0 are those of the original code of 2.1."""

# Steps and guidance of Karlo's "fast" setting, by the names of diffusers' components.
_UNCLIP_SETTINGS = {"prior": (25, 4.0), "decoder": (25, 8.0), "super_res": (7, 1.0)}
_UNCLIP = "UnCLIPScheduler"
_UNCLIP_FIXED = {"beta_schedule": "squaredcos_cap_v2"}
_UNCLIP_DEFAULTS = {
    "num_train_timesteps": 1000,
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
}
_PREDICTION = {"sample": "x0", "epsilon": "eps"}
# Larger than any x0: there is no bound.
_UNBOUNDED = 1e6

# The noise schedule of Kandinsky's decoders, the only one that their networks were trained with.
_DECODER_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "trained_betas": None,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}
_SCHEDULE_DEFAULTS = _DECODER_SCHEDULE | {"beta_start": 0.0001, "beta_end": 0.02}
_BOUND_DEFAULTS = {"clip_sample": True, "clip_sample_range": 1.0, "thresholding": False, "sample_max_value": 1.0}
# Schedulers that clip x0 by default; others never do.
_CLIPPING = ("DDPMScheduler", "DDIMScheduler")
# Our sampler for the same equation; others are replaced by Kandinsky's.
_SAMPLERS = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpm++",
}
# Options of sampling that are not followed: the values that change nothing, and the reason.
_DIFFERING: dict[str, tuple[tuple[object, ...], str]] = {
    "timestep_spacing": ((), "steps begin at the noisiest one here, whatever their number"),
    "steps_offset": ((0,), "steps begin at the noisiest one here, whatever their number"),
    "set_alpha_to_one": ((True,), "the last step ends at the clean picture here"),
    "variance_type": (("learned_range", "learned"), "the variance is the one that the network has learned"),
}


def with_diffusion(config: C, scheduler: Mapping[str, Any]) -> C:
    """Return our network's config with the fields of an UnCLIPScheduler; raises `ConfigError` for a contradiction."""
    options = read_options(scheduler, _UNCLIP, _UNCLIP_FIXED, _UNCLIP_DEFAULTS)
    require(_UNCLIP, options, {"variance_type": _variance_type(config)})
    if (kind := options["prediction_type"]) not in _PREDICTION:
        raise ConfigError(f"{_UNCLIP}: prediction_type={kind!r} is not supported; {did_you_mean(kind, _PREDICTION)}")
    num_timesteps = options["num_train_timesteps"]
    return config.replace(prediction_type=_PREDICTION[kind], schedule="cosine", num_timesteps=num_timesteps)


def _variance_type(config: Config) -> str:
    is_learned = isinstance(config, DecoderConfig | UpsamplerConfig) and config.learned_variance
    return "learned_range" if is_learned else "fixed_small_log"


def unclip_sampling(scheduler: Mapping[str, Any], component: str) -> dict[str, Any]:
    """Return the sampling fields of Karlo's pipelines; the table is in float32, as diffusers multiplies it up."""
    num_steps, guidance_scale = _UNCLIP_SETTINGS[component]
    options = read_options(scheduler, _UNCLIP, _UNCLIP_FIXED, _UNCLIP_DEFAULTS)
    return {
        "num_steps": min(num_steps, options["num_train_timesteps"]),
        "guidance_scale": guidance_scale,
        "sampler": "ddpm",
        "x0_bound": _bound(options),
        "schedule_dtype": "float32",
    }


def unclip_scheduler(config: PriorConfig | DecoderConfig | UpsamplerConfig, x0_bound: float) -> dict[str, Any]:
    """Write the UnCLIPScheduler of one of our networks; raises `ConfigError` if there is none."""
    kinds = {ours: theirs for theirs, ours in _PREDICTION.items()}
    prediction = config.prediction_type
    allowed = {"schedule": "cosine", "prediction_type": prediction if prediction in kinds else tuple(kinds)}
    require(type(config).__name__, dict(config), allowed)
    return {
        "_class_name": _UNCLIP,
        **_UNCLIP_FIXED,
        "num_train_timesteps": config.num_timesteps,
        "variance_type": _variance_type(config),
        "clip_sample": x0_bound < _UNBOUNDED,
        "clip_sample_range": x0_bound if x0_bound < _UNBOUNDED else _UNCLIP_DEFAULTS["clip_sample_range"],
        "prediction_type": kinds[prediction],
    }


def kandinsky_sampling(scheduler: Mapping[str, Any], kind: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Read sampling fields from a decoder's scheduler; return also options that are not followed, with the reason.

    `kind` is the class that `model_index.json` names, if any. Raises `ConfigError` for another noise schedule.
    """
    kind = kind or scheduler.get("_class_name") or "DDPMScheduler"
    options = {name: value for name, value in scheduler.items() if value is not None and not name.startswith("_")}
    schedule = {name: options.pop(name) for name in _SCHEDULE_DEFAULTS if name in options}
    read_options(schedule, kind, _DECODER_SCHEDULE, _SCHEDULE_DEFAULTS)
    bounds = {name: options.pop(name) for name in _BOUND_DEFAULTS if name in options}
    bounds = read_options(bounds, kind, {}, _BOUND_DEFAULTS | {"clip_sample": kind in _CLIPPING})
    bound, dropped = _bound(bounds), dict[str, str]()
    ratio = options.pop("dynamic_thresholding_ratio", 0.995)
    if bounds["thresholding"] and scheduler.get("sample_max_value", 1.0) is not None:
        bound = float(bounds["sample_max_value"])
        dropped[f"thresholding (dynamic_thresholding_ratio={ratio})"] = f"x0 is clipped to {bound:g} here"
    for name, (idle, reason) in _DIFFERING.items():
        if name in options and (value := options.pop(name)) not in idle:
            dropped[f"{name}={value!r}"] = reason
    sampler = _SAMPLERS.get(kind, "ddpm")
    if kind not in _SAMPLERS:
        dropped[kind] = f"there is no such sampler here; {sampler} is used instead, unless another is chosen"
    dropped |= {f"{name}={value!r}": f"{sampler} has no such option here" for name, value in options.items() if value}
    return ORIGINAL_SAMPLING["decoder"] | {"sampler": sampler, "x0_bound": bound}, dropped


def _bound(options: Mapping[str, Any]) -> float:
    return float(options["clip_sample_range"]) if options["clip_sample"] else _UNBOUNDED
