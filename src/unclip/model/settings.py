"""How one stage of a model is sampled."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import pydantic

from unclip.config import Config
from unclip.errors import ConfigError

# Bounds of a predicted x0. Embeddings and latents are in standard deviations: one further out is noise (Karlo clamps
# embeddings at 10 too). Pixels lie in [-1, 1].
EMBEDDING_BOUND, LATENT_BOUND, PIXEL_BOUND = 10.0, 10.0, 1.0


Presets: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By name and stage, fields of `StageSettings`."""


class StageSettings(Config):
    """How one stage is sampled."""

    num_steps: int = pydantic.Field(ge=1)
    """Steps of the sampler."""
    sampler: str
    """Name of the sampler, one of `unclip.diffusion.SAMPLERS`."""
    spacing: Literal["uniform", "logsnr"] = "uniform"
    """Steps even in the schedule's table, or even in log-SNR."""
    guidance_scale: float = pydantic.Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Classifier-free guidance; 1 is off. The upsamplers use none."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Times t between which guidance acts; outside them the unconditional pass is saved."""
    x0_bound: float | None = pydantic.Field(default=None, gt=0.0)
    """Largest absolute value of a predicted x0; None is the stage's own: 10 for the prior and latents, 1 for pixels."""
    schedule_dtype: Literal["float64", "float32"] = "float64"
    """What the schedule's table is multiplied up in: float32 repeats the rounding of diffusers."""
    eta: float = pydantic.Field(default=0.0, ge=0.0, le=1.0)
    """Share of the posterior's deviation that DDIM draws as noise; 0 is deterministic. Other samplers take none."""
    augmentation: float = pydantic.Field(default=0.0, ge=0.0, le=1.0)
    """Standard deviation of noise: added to an upsampler's small picture, where it hides a decoder's flaws; that a
    decoder takes the prior's image embeddings to have. 0 is none."""
    sigma_min: float = pydantic.Field(default=0.0, ge=0.0, le=1.0)
    """No step ends at less noise than this but the last, which ends at none; 0 makes every step."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "StageSettings":
        if self.eta > 0.0 and self.sampler != "ddim":
            raise ConfigError(
                f"eta={self.eta} is noise of ddim, but the sampler is {self.sampler}; use ddim, or eta=0."
            )
        return self
