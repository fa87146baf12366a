"""Wrappers that bound the predicted x0 and make eps agree with it; they know a denoiser, no network and no sampler."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction, eps_from_x0
from unclip.diffusion.schedules import NoiseSchedule, per_sample
from unclip.errors import InputError
from unclip.shapes import Sample, Timesteps


def clip_x0(denoiser: Denoiser, bound: float = 1.0) -> Denoiser:
    """Clamp the predicted x0 to [-bound, bound]; goes around guidance, not inside. Raises InputError for bound <= 0."""
    if not bound > 0:
        raise InputError(f"the x0 bound {bound} must be above 0; pixels use 1, standardised embeddings 10.")
    return ClippedDenoiser(denoiser, bound)


def dynamic_threshold(denoiser: Denoiser, percentile: float = 0.995) -> Denoiser:
    """Divide each sample's x0 by that quantile of its |x0| where it exceeds 1, and clamp to [-1, 1]; for pixels.

    percentile: in (0, 1], the share of values left unclamped. Raises InputError outside.
    """
    if not 0 < percentile <= 1:
        raise InputError(f"the threshold percentile {percentile} must lie in (0, 1]; Imagen uses 0.995.")
    return ThresholdedDenoiser(denoiser, percentile)


@dataclass(frozen=True, eq=False)
class ClippedDenoiser:
    """A denoiser whose x0 is clamped; made by `clip_x0`."""

    denoiser: Denoiser
    bound: float

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of the wrapped denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser(x_t, t)
        return with_x0(prediction, prediction.x0.clamp(-self.bound, self.bound), self.schedule, x_t, t)


@dataclass(frozen=True, eq=False)
class ThresholdedDenoiser:
    """A denoiser whose x0 is thresholded by its own range; made by `dynamic_threshold`."""

    denoiser: Denoiser
    percentile: float

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of the wrapped denoiser."""
        return self.denoiser.schedule

    # Dynamic thresholding, Imagen section 2.3.
    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser(x_t, t)
        s = per_sample(magnitude(prediction.x0, self.percentile).clamp(min=1), prediction.x0)
        return with_x0(prediction, prediction.x0.clamp(-s, s) / s, self.schedule, x_t, t)


def magnitude(x: Sample, percentile: float) -> Timesteps:
    """Quantile of |x| in each sample, one sample at a time: torch.quantile takes at most 2^24 numbers."""
    return torch.stack([torch.quantile(sample.abs().flatten(), percentile) for sample in x])


def with_x0(
    prediction: Prediction, x0: Sample, schedule: NoiseSchedule, x_t: Sample, t: Float[Tensor, "*times"]
) -> Prediction:
    """A prediction with another x0 and the eps that agrees with it; the variance stays."""
    return prediction._replace(x0=x0, eps=eps_from_x0(schedule, x_t, x0, t))
