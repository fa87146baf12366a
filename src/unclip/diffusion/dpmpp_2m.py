"""DPM-Solver++ 2M, one evaluation a step."""

from collections.abc import Iterator

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.process import flow_step
from unclip.diffusion.sampler import Noise, SamplerStep, denoise, grid_steps
from unclip.diffusion.schedules import half_log_snr
from unclip.shapes import Sample


# DPM-Solver++(2M), Lu et al. 2022b algorithm 2.
def dpmpp_2m(denoiser: Denoiser, x_T: Sample, times: Tensor, noise: Noise | None = None) -> Iterator[SamplerStep]:
    """Extrapolate x0 from the last two evaluations; see Sampler for the arguments; draws no noise.

    The first step, and the one that ends at t = 0 where the log-SNR is infinite, are of first order.
    """
    schedule, x_t = denoiser.schedule, x_T
    previous: tuple[Tensor, Tensor] | None = None  # x0 and half log-SNR of the step before.
    for step in grid_steps(times):
        x0 = denoise(denoiser, x_t, step.t).x0
        log_snr, log_snr_next = half_log_snr(schedule, step.t), half_log_snr(schedule, step.t_next)
        direction = x0
        if previous is not None and step.t_next > 0:
            last_x0, last_log_snr = previous
            direction = midpoint_x0(x0, last_x0, log_snr_next - log_snr, log_snr - last_log_snr)
        x_t = flow_step(schedule, x_t, direction, step.t, step.t_next)
        previous = (x0, log_snr)
        yield step.done(x_t, x0)


# D_i of DPM-Solver++ algorithm 2.
def midpoint_x0(x0: Sample, last_x0: Sample, h: Tensor, last_h: Tensor) -> Sample:
    """Extrapolate x0 in log-SNR from the last two evaluations, last_h apart, to the middle of a step of size h."""
    return x0 + h / (2 * last_h) * (x0 - last_x0)
