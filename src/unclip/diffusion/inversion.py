"""The DDIM sampler backwards: from a sample to the noise that it is sampled from."""

from collections.abc import Iterator

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.sampler import GridStep, SamplerStep, denoise, grid_steps
from unclip.errors import InputError
from unclip.shapes import Sample


# DDIM section 4.3; the x_T of unCLIP section 3.1.
def invert(denoiser: Denoiser, x0: Sample, times: Tensor, num_refinements: int = 0) -> Iterator[SamplerStep]:
    """Climb from x0 at the last of `times` to x_T at the first; `ddim` without noise leads back along the same times.

    times: falling, as for `ddim`; `time_grid` leaves out those of less noise (sigma_min) than the network's own error,
    which would end up in x_T enlarged. Each step evaluates the denoiser once, and once more per refinement. `ddim`
    along the same times misses x0 by an error of order 1 + num_refinements in the step size, and by none in the limit:
    refinements are a fixed-point iteration on the step of `ddim`. Raises InputError for num_refinements < 0.
    """
    if num_refinements < 0:
        raise InputError(f"num_refinements={num_refinements} is below 0; use 0 for none, or 1 to 5.")
    x_t = x0
    for step in climb(times):
        start = x_t
        prediction = predict(denoiser, start, step)
        x_t = move(denoiser, prediction, step.t_next)
        for _ in range(num_refinements):
            prediction = denoise(denoiser, x_t, step.t_next)
            # On normal data ddim's step is linear, and its slope lies between the ratios of the two sigmas and of the
            # two alphas: this contracts where the slope is below 2, without a damping that depends on the data.
            x_t = x_t + (start - move(denoiser, prediction, step.t))
        yield step.done(x_t, prediction.x0)


def climb(times: Tensor) -> list[GridStep]:
    """Return the steps of a falling grid upwards, from its last time to its first."""
    return [
        GridStep(index, step.num_steps, step.t_next, step.t) for index, step in enumerate(reversed(grid_steps(times)))
    ]


def predict(denoiser: Denoiser, x_t: Sample, step: GridStep) -> Prediction:
    """Predict from x_t before a step up.

    At t = 0 denoisers are undefined: x0 is x_t itself, and eps that of the next time for the mean it has there.
    """
    if step.t > 0:
        return denoise(denoiser, x_t, step.t)
    return denoise(denoiser, denoiser.schedule.alpha(step.t_next) * x_t, step.t_next)._replace(x0=x_t)


# DDIM eq. 12 without noise.
def move(denoiser: Denoiser, prediction: Prediction, t: Tensor) -> Sample:
    """Return the sample of a prediction at another time, later or earlier."""
    return denoiser.schedule.alpha(t) * prediction.x0 + denoiser.schedule.sigma(t) * prediction.eps
