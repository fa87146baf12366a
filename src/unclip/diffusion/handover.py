"""Two denoisers that share a path: one for the noisy part, one for the rest. It knows neither networks nor samplers."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.schedules import NoiseSchedule
from unclip.shapes import Sample


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
