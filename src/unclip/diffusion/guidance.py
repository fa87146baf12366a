"""Classifier-free guidance, as a wrapper of two denoisers."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import BoundDenoiser, Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.schedules import NoiseSchedule, per_sample
from unclip.errors import InputError
from unclip.shapes import Sample


def guide(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: float | Tensor,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """Guide a denoiser away from an unconditional one of the same schedule, where interval[0] <= t <= interval[1].

    scale: one number, or (batch,); 1 is off and returns `conditional` itself, so nothing is evaluated twice.
    Two `bind`s of one network run as one batch, [conditional; unconditional]. The variance is the conditional one's.
    Raises InputError for a scale that is negative or not finite, and for an interval outside 0 <= low <= high <= 1.
    """
    scales = torch.as_tensor(scale, dtype=torch.float64)
    if not bool((scales.isfinite() & (scales >= 0)).all()):
        raise InputError(f"guidance_scale={scale} is not a number of 0 or more; use 1 for off, or 2 to 8.")
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise InputError(f"guidance_interval={interval} must hold 0 <= low <= high <= 1, for example (0.1, 0.8).")
    if bool((scales == 1).all()):
        return conditional
    return GuidedDenoiser(conditional, unconditional, merge(conditional, unconditional), scales, interval)


@dataclass(frozen=True, eq=False)
class GuidedDenoiser:
    """Two denoisers and the scale between them; made by `guide`."""

    conditional: Denoiser
    unconditional: Denoiser
    pair: BoundDenoiser | None
    scale: Float[Tensor, "*batch"]
    interval: tuple[float, float]

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of both."""
        return self.conditional.schedule

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        if not bool(inside.any()):
            return self.conditional(x_t, t)
        if self.pair is None:
            conditional, unconditional = self.conditional(x_t, t), self.unconditional(x_t, t)
        else:
            conditional, unconditional = evaluate_together(self.pair, x_t, t)
        scale = torch.where(inside, self.scale.to(inside.device), 1.0)
        return guided(conditional, unconditional, per_sample(scale, x_t))


# Classifier-free guidance, Ho and Salimans eq. 6, with scale = 1 + w.
def guided(conditional: Prediction, unconditional: Prediction, scale: Tensor) -> Prediction:
    """unconditional + scale (conditional - unconditional), in eps and, by the same line, in x0.

    x0 is linear in eps at a fixed x_t, so mixing both equals mixing eps and converting; but converting divides by
    alpha, which at the noisy end costs an x0-predicting network all its digits.
    """
    x0 = unconditional.x0 + scale * (conditional.x0 - unconditional.x0)
    eps = unconditional.eps + scale * (conditional.eps - unconditional.eps)
    return Prediction(x0, eps, conditional.variance_fraction)


def evaluate_together(pair: BoundDenoiser, x_t: Sample, t: Float[Tensor, "*times"]) -> tuple[Prediction, Prediction]:
    """The predictions of both halves of a merged denoiser for the same x_t."""
    prediction = pair(torch.cat([x_t, x_t]), t if t.ndim == 0 else torch.cat([t, t]))
    (x0, other_x0), (eps, other_eps) = prediction.x0.chunk(2), prediction.eps.chunk(2)
    if prediction.variance_fraction is None:
        return Prediction(x0, eps), Prediction(other_x0, other_eps)
    fraction, other_fraction = prediction.variance_fraction.chunk(2)
    return Prediction(x0, eps, fraction), Prediction(other_x0, other_eps, other_fraction)


def merge(first: Denoiser, second: Denoiser) -> BoundDenoiser | None:
    """One denoiser for the batch [first; second], or None where they are not one network bound in the same way."""
    if not (isinstance(first, BoundDenoiser) and isinstance(second, BoundDenoiser)):
        return None
    if first.network is not second.network or first.schedule is not second.schedule:
        return None
    if (first.prediction_type, first.learned_variance) != (second.prediction_type, second.learned_variance):
        return None
    if first.conditioning.keys() != second.conditioning.keys():
        return None
    pairs = {name: (value, second.conditioning[name]) for name, value in first.conditioning.items()}
    if not all(can_share_batch(*pair) for pair in pairs.values()):
        return None
    return replace(first, conditioning={name: concatenate(*pair) for name, pair in pairs.items()})


def can_share_batch(first: Tensor | None, second: Tensor | None) -> bool:
    """Whether `concatenate` can join two conditionings."""
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and first.dtype == second.dtype


def concatenate(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Two conditionings as one with twice the batch."""
    return None if first is None or second is None else torch.cat([first, second])
