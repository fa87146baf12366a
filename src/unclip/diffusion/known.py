"""A denoiser that knows part of the picture, and the start of its sampling; they know no network and no sampler."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.clipping import with_x0
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.process import add_noise
from unclip.diffusion.schedules import NoiseSchedule
from unclip.errors import InputError
from unclip.shapes import Images

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
