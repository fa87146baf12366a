"""The ancestral DDPM sampler, with fixed or learned variance."""

from collections.abc import Iterator
from typing import Literal, assert_never

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.process import learned_log_variance, posterior, posterior_log_variance, step_beta
from unclip.diffusion.sampler import GridStep, Noise, SamplerStep, denoise, draw, grid_steps
from unclip.diffusion.schedules import NoiseSchedule
from unclip.errors import InputError
from unclip.shapes import Sample

Variance = Literal["auto", "small", "large", "learned"]


# Ancestral sampling, DDPM algorithm 2.
def ddpm(
    denoiser: Denoiser, x_T: Sample, times: Tensor, noise: Noise | None = None, *, variance: Variance = "auto"
) -> Iterator[SamplerStep]:
    """Draw each x_prev from the posterior of the predicted x0; see Sampler for the arguments.

    variance: "small" is the posterior's, "large" is beta, "learned" lies between as the network predicts; "auto" is
    "learned" where the network has learned one, else "small". Raises InputError for "learned" where it has not.
    """
    x_t = x_T
    for step in grid_steps(times):
        prediction = denoise(denoiser, x_t, step.t)
        mean, _ = posterior(denoiser.schedule, prediction.x0, x_t, step.t, step.t_next)
        x_t = mean
        if step.t_next > 0:
            log_variance = step_log_variance(variance, denoiser.schedule, prediction, step)
            x_t = mean + draw(noise, (0.5 * log_variance).exp(), mean)
        yield step.done(x_t, prediction.x0)


# Reverse variances, DDPM section 3.2 and Improved DDPM eq. 15.
def step_log_variance(variance: Variance, schedule: NoiseSchedule, prediction: Prediction, step: GridStep) -> Tensor:
    """Return the log variance of one step, one number or in the shape of x_t."""
    lower = posterior_log_variance(schedule, step.t, step.t_next)
    upper = step_beta(schedule, step.t, step.t_next).log()
    fraction = prediction.variance_fraction
    match variance:
        case "small":
            return lower
        case "large":
            return upper
        case "auto" if fraction is None:
            return lower
        case "auto" | "learned":
            if fraction is None:
                raise InputError("variance='learned', but this network learned none; use 'small' or 'large'.")
            return learned_log_variance(fraction, lower, upper)
        case _:
            assert_never(variance)
