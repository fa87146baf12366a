"""The DDIM sampler, deterministic or with noise."""

from collections.abc import Iterator

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.process import posterior_log_variance
from unclip.diffusion.sampler import Noise, SamplerStep, denoise, draw, grid_steps
from unclip.errors import InputError
from unclip.shapes import Sample


# DDIM eq. 12, with its sigma written std.
def ddim(
    denoiser: Denoiser, x_T: Sample, times: Tensor, noise: Noise | None = None, *, eta: float = 0.0
) -> Iterator[SamplerStep]:
    """Step to the next time along the predicted x0 and eps; see Sampler for the arguments.

    eta: share of the posterior's standard deviation drawn as noise, in [0, 1]; 0 draws none. Raises InputError outside.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta={eta} must lie in [0, 1]; 0 is deterministic, 1 has the variance of DDPM.")
    schedule, x_t = denoiser.schedule, x_T
    for step in grid_steps(times):
        x0, eps, _ = denoise(denoiser, x_t, step.t)
        alpha, sigma = schedule.alpha(step.t_next), schedule.sigma(step.t_next)
        std = eta * (0.5 * posterior_log_variance(schedule, step.t, step.t_next)).exp()
        if eta > 0 and step.t_next > 0:
            x_t = alpha * x0 + (sigma.square() - std.square()).sqrt() * eps + draw(noise, std, x0)
        else:
            x_t = alpha * x0 + sigma * eps
        yield step.done(x_t, x0)
