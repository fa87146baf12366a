"""The SDE form of DPM-Solver++ 2M."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.dpmpp_2m import midpoint_x0
from unclip.diffusion.sampler import Noise, SamplerStep, denoise, draw, grid_steps
from unclip.diffusion.schedules import half_log_snr
from unclip.shapes import Sample


# SDE-DPM-Solver++(2M), Lu et al. 2022b section 4.4.
def dpmpp_2m_sde(denoiser: Denoiser, x_T: Sample, times: Tensor, noise: Noise | None = None) -> Iterator[SamplerStep]:
    """DPM-Solver++ 2M on the reverse SDE, whose noise corrects earlier errors; see Sampler for the arguments."""
    schedule, x_t = denoiser.schedule, x_T
    previous: tuple[Tensor, Tensor] | None = None  # x0 and half log-SNR of the step before.
    for step in grid_steps(times):
        x0 = denoise(denoiser, x_t, step.t).x0
        log_snr = half_log_snr(schedule, step.t)
        if step.t_next > 0:
            h = half_log_snr(schedule, step.t_next) - log_snr
            direction = x0 if previous is None else midpoint_x0(x0, previous[0], h, log_snr - previous[1])
            alpha, sigma = schedule.alpha(step.t_next), schedule.sigma(step.t_next)
            # expm1, as steps of 1e-3 in log-SNR would lose half the digits of 1 - exp(-2h).
            gain = -torch.expm1(-2 * h)
            x_t = sigma / schedule.sigma(step.t) * (-h).exp() * x_t + alpha * gain * direction
            x_t = x_t + draw(noise, sigma * gain.sqrt(), x_t)
        else:
            x_t = x0
        previous = (x0, log_snr)
        yield step.done(x_t, x0)
