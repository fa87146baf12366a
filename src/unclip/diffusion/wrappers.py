"""Wrappers from denoiser to denoiser: bounds on x0, known regions, a hand-over in time, self-conditioning."""

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

Mask = Float[Tensor, "mask_batch 1 mask_height mask_width"]


def clip_x0(denoiser: Denoiser, bound: float = 1.0) -> Denoiser:
    """Clamp the predicted x0 to [-bound, bound]; goes around guidance, not inside. Raises InputError for bound <= 0."""
    if not bound > 0:
        raise InputError(f"the x0 bound {bound} must be above 0; pixels use 1, standardised embeddings 10.")
    return ChangedX0(denoiser, lambda x0: x0.clamp(-bound, bound))


def dynamic_threshold(denoiser: Denoiser, percentile: float = 0.995) -> Denoiser:
    """Divide each sample's x0 by a quantile of its |x0| if that exceeds 1, and clamp to [-1, 1]; for pixels.

    percentile: in (0, 1], the share of values left unclamped. Raises InputError outside.
    """
    if not 0 < percentile <= 1:
        raise InputError(f"the threshold percentile {percentile} must lie in (0, 1]; Imagen uses 0.995.")
    return ChangedX0(denoiser, lambda x0: threshold(x0, percentile))


def keep_known(denoiser: Denoiser, known: Images, mask: Mask) -> Denoiser:
    """Replace the predicted x0 by `known` where the mask is 0, mix them where it lies between; goes outermost.

    mask: 1 is repainted, 0 is kept, one for all pictures or one each, of their height and width. A mask of ones returns
    `denoiser` itself. Every sampler ends at `known` bit for bit where the mask is 0, and a deterministic one that
    begins at `start_known` stays on known's own noised path. Raises InputError for values outside [0, 1] and sizes
    that do not fit.
    """
    check_mask(known, mask)
    return denoiser if bool((mask == 1).all()) else ChangedX0(denoiser, lambda x0: merge(known, x0, mask))


def start_known(schedule: NoiseSchedule, known: Images, mask: Mask, noise: Images, t: Float[Tensor, ""]) -> Images:
    """Return the x_t to begin from: the noise where the mask is 1, `known` in the forward process where it is 0.

    A mask of ones returns `noise` bit for bit. Raises InputError as `keep_known`.
    """
    check_mask(known, mask)
    return noise if bool((mask == 1).all()) else merge(add_noise(schedule, known.to(noise), noise, t), noise, mask)


@dataclass(frozen=True, eq=False)
class ChangedX0:
    """A denoiser with another x0, and the eps that agrees with it; the variance stays."""

    denoiser: Denoiser
    change: Callable[[Tensor], Tensor]

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of the wrapped denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser(x_t, t)
        x0 = self.change(prediction.x0)
        return prediction._replace(x0=x0, eps=eps_from_x0(self.schedule, x_t, x0, t))


# Dynamic thresholding, Imagen section 2.3.
def threshold(x0: Sample, percentile: float) -> Sample:
    """Bring x0 into its own range, the quantile of |x0| but at least 1, and divide by it."""
    s = per_sample(magnitude(x0, percentile).clamp(min=1), x0)
    return x0.clamp(-s, s) / s


def magnitude(x: Sample, percentile: float) -> Timesteps:
    """Return the quantile of |x| in each sample, one sample at a time: torch.quantile takes at most 2^24 numbers."""
    return torch.stack([torch.quantile(sample.abs().flatten(), percentile) for sample in x])


def merge(known: Tensor, new: Images, mask: Mask) -> Images:
    """Return `known` where the mask is 0, `new` where it is 1, both bit for bit."""
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


def hand_over(first: Denoiser, last: Denoiser, t: float) -> Denoiser:
    """Use `first` above time t, `last` at t and below; both follow one schedule (eDiff-I section 4, two experts)."""
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
    """Make a denoiser for one trajectory whose every call reads the x0 that the call before predicted.

    `denoiser_of(x0)` is the denoiser that reads `x0`, None at first; it follows `schedule`. Its final x0 is remembered:
    guidance and bounds belong inside, so that both passes of a guided pair read the same x0.
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
    """Predict the x0 that a self-conditioned network reads in a training step; `denoiser` itself reads none.

    Bound it as in sampling (`clip_x0`): at the noisy end an x0 that is computed from eps has no bounds.
    """
    with torch.no_grad():
        x0 = denoiser(x_t, t).x0
    # Autocast keeps weights that it has cast; older versions of torch would take these, which have no gradient, for
    # the pass that trains.
    torch.clear_autocast_cache()
    return x0
