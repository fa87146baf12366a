"""Wrappers from denoiser to denoiser: clipping x0, self-conditioning, a hand-over in time, known regions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction, eps_from_x0
from unclip.diffusion.process import add_noise
from unclip.diffusion.schedules import NoiseSchedule, per_sample
from unclip.errors import InputError
from unclip.shapes import Images, Sample, Timesteps


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


def hand_over(first: Denoiser, last: Denoiser, t: float) -> Denoiser:
    """`first` above time t, `last` at t and below; both follow one schedule (eDiff-I section 4, with two experts)."""
    return HandedOver(first, last, t)


@dataclass(frozen=True, eq=False)
class HandedOver:
    """Two denoisers in turn; made by `hand_over`."""

    first: Denoiser
    last: Denoiser
    t: float

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of both."""
        return self.first.schedule

    def __call__(self, x_t: Sample, t: Float[Tensor, ""]) -> Prediction:
        return self.last(x_t, t) if float(t) <= self.t else self.first(x_t, t)


DenoiserOf: TypeAlias = Callable[[Tensor | None], Denoiser]


def self_condition(denoiser_of: DenoiserOf, schedule: NoiseSchedule) -> Denoiser:
    """A denoiser for one trajectory, shown in each call the x0 that it predicted in the one before.

    `denoiser_of(x0)` is the denoiser shown `x0`, None at first; it follows `schedule`. What is remembered is what comes
    out of it: guidance and bounds belong inside, so that both passes of a guided pair are shown the same x0.
    """
    return SelfConditionedDenoiser(denoiser_of, schedule)


# Analog Bits (arXiv 2208.04202), algorithm 2: x_pred of one step is an input of the next.
@dataclass(eq=False)
class SelfConditionedDenoiser:
    """A denoiser with a memory; made by `self_condition`, anew for each sampling."""

    denoiser_of: DenoiserOf
    schedule: NoiseSchedule
    last: Tensor | None = None

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser_of(self.last)(x_t, t)
        self.last = prediction.x0
        return prediction


# Analog Bits, algorithm 1: the estimate of a first pass is an input of the second, and no gradient flows through it.
def estimate_x0(denoiser: Denoiser, x_t: Sample, t: Timesteps) -> Sample:
    """What a training step shows a self-conditioned network: x0 as `denoiser`, shown none itself, predicts it.

    Bound it as in sampling (`clip_x0`): at the noisy end an x0 that is computed from eps has no bounds.
    """
    with torch.no_grad():
        x0 = denoiser(x_t, t).x0
    # Autocast keeps weights that it has cast; older versions of torch would take these, which have no gradient, for
    # the pass that trains.
    torch.clear_autocast_cache()
    return x0


Mask = Float[Tensor, "mask_batch 1 mask_height mask_width"]


def keep_known(denoiser: Denoiser, known: Images, mask: Mask) -> Denoiser:
    """Replace the predicted x0 by `known` where the mask is 0, mix them where it lies between; goes outermost.

    mask: 1 is repainted, 0 is kept, one for all pictures or one each, of their height and width. A mask of ones returns
    `denoiser` itself. Every sampler ends at `known` bit for bit where the mask is 0, and a deterministic one that
    begins at `start_known` stays on known's own noised path. Raises InputError for values outside [0, 1] and sizes
    that do not fit.
    """
    check_mask(known, mask)
    return denoiser if bool((mask == 1).all()) else KnownDenoiser(denoiser, known, mask)


def start_known(schedule: NoiseSchedule, known: Images, mask: Mask, noise: Images, t: Float[Tensor, ""]) -> Images:
    """x_t to begin from: the noise where the mask is 1, the forward process of `known` under it where it is 0.

    A mask of ones returns `noise` bit for bit. Raises InputError as `keep_known`.
    """
    check_mask(known, mask)
    return noise if bool((mask == 1).all()) else merge(add_noise(schedule, known.to(noise), noise, t), noise, mask)


@dataclass(frozen=True, eq=False)
class KnownDenoiser:
    """A denoiser whose x0 is known where a mask is 0; made by `keep_known`."""

    denoiser: Denoiser
    known: Images
    mask: Mask

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of the wrapped denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Images, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser(x_t, t)
        return with_x0(prediction, merge(self.known, prediction.x0, self.mask), self.schedule, x_t, t)


def merge(known: Tensor, new: Images, mask: Mask) -> Images:
    """known where the mask is 0, new where it is 1, both bit for bit."""
    return torch.lerp(known.to(new), new, mask.to(new))


def check_mask(known: Images, mask: Mask) -> None:
    """Raise InputError unless the mask fits the pictures and lies in [0, 1]."""
    if mask.shape[-2:] != known.shape[-2:] or len(mask) not in {1, len(known)}:
        raise InputError(
            f"a mask of shape {tuple(mask.shape)} does not fit pictures of shape {tuple(known.shape)}; "
            "it needs their height and width, one channel, and one mask for all or for each."
        )
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise InputError("mask values must lie in [0, 1]: 1 is repainted, 0 is kept.")
