"""The contract of samplers: a generator over a time grid, and what it yields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.errors import InputError
from unclip.shapes import Sample

Noise = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class SamplerStep:
    """The state after a step; `x_t` of the last one is the sample."""

    index: int
    """Number of the step, from 0 to num_steps - 1."""
    num_steps: int
    """Number of steps in all."""
    t: float
    """Time of x_t, after the step."""
    x_t: Sample
    """The sample at time t."""
    x0: Sample
    """The clean sample as predicted in this step: the preview."""


@runtime_checkable
class Sampler(Protocol):
    """A generator of SamplerSteps; the caller owns progress bars, previews and cancelling."""

    def __call__(
        self, denoiser: Denoiser, x_T: Tensor, times: Tensor, noise: Noise | None = None
    ) -> Iterator[SamplerStep]:
        """Denoise x_T, (batch, ...), along falling times from that of x_T to 0.

        noise: draws standard noise in the shape of x_T, once in each step of a stochastic sampler that does not end at
        t = 0. Raises InputError where it is needed and missing, and for times that do not fall inside [0, 1].
        """
        ...


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler and what it promises."""

    name: str
    sample: Sampler
    order: int
    """Order of convergence in the step size: of the sample, or of its distribution where the sampler draws noise."""
    stochastic: bool
    """Whether it draws noise by default."""


@dataclass(frozen=True, eq=False)
class GridStep:
    """One step of a sampler: from time t to time t_next."""

    index: int
    num_steps: int
    t: Tensor
    t_next: Tensor

    def done(self, x_t: Tensor, x0: Tensor) -> SamplerStep:
        """Return what the sampler yields after this step."""
        return SamplerStep(self.index, self.num_steps, float(self.t_next), x_t, x0)


def grid_steps(times: Tensor) -> list[GridStep]:
    """Split a time grid into steps, float64 on the CPU. Raises InputError unless times fall strictly inside [0, 1]."""
    times = times.detach().to("cpu", torch.float64)
    valid = times.ndim == 1 and len(times) > 1 and bool((times.diff() < 0).all())
    if not (valid and times[0] <= 1 and times[-1] >= 0):
        raise InputError(f"times {times.tolist()} must be two or more numbers that fall inside [0, 1]; use time_grid.")
    last = len(times) - 1
    return [GridStep(index, last, times[index], times[index + 1]) for index in range(last)]


# Here and not around a sampler: a context held open across a yield would leak into the caller's code.
@torch.no_grad()
def denoise(denoiser: Denoiser, x_t: Sample, t: Tensor) -> Prediction:
    """Call the denoiser without gradients."""
    return denoiser(x_t, t)


def draw(noise: Noise | None, scale: Tensor, x: Sample) -> Tensor:
    """Draw noise, times `scale`. Raises InputError without a source of noise."""
    if noise is None:
        raise InputError("this sampler draws noise in every step; pass noise=, a function that returns it.")
    return scale * noise().to(x)
