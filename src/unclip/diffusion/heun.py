"""Heun's method on the probability-flow ODE."""

from collections.abc import Iterator

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.process import flow_step
from unclip.diffusion.sampler import Noise, SamplerStep, denoise, grid_steps
from unclip.shapes import Sample


# Heun's method, EDM algorithm 1.
def heun(denoiser: Denoiser, x_T: Sample, times: Tensor, noise: Noise | None = None) -> Iterator[SamplerStep]:
    """Two evaluations a step, one in the step that ends at t = 0; see Sampler for the arguments; draws no noise."""
    schedule, x_t = denoiser.schedule, x_T
    for step in grid_steps(times):
        x0 = denoise(denoiser, x_t, step.t).x0
        x_next = flow_step(schedule, x_t, x0, step.t, step.t_next)
        if step.t_next > 0:
            x0 = (x0 + denoise(denoiser, x_next, step.t_next).x0) / 2
            x_next = flow_step(schedule, x_t, x0, step.t, step.t_next)
        x_t = x_next
        yield step.done(x_t, x0)
