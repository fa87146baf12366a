"""What a network predicts, and how x0, eps and v turn into each other."""

from typing import Literal, NamedTuple, assert_never

from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.schedules import NoiseSchedule, per_sample
from unclip.shapes import Sample

PredictionType = Literal["x0", "eps", "v"]


class Prediction(NamedTuple):
    """A denoiser's answer for x_t, each in the shape of x_t; x0 and eps always agree: x_t = alpha x0 + sigma eps.

    variance_fraction is 1 where the step's variance is beta, 0 where it is the posterior variance (Improved DDPM
    eq. 15), None where the network learned none. A fraction, not a log variance: both bounds change with the step size.
    """

    x0: Sample
    eps: Sample
    variance_fraction: Sample | None = None


# x0 from eps, DDPM eq. 15.
def x0_from_eps(schedule: NoiseSchedule, x_t: Sample, eps: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """Clean sample from predicted noise; undefined where alpha(t) is 0."""
    return (x_t - per_sample(schedule.sigma(t), x_t) * eps) / per_sample(schedule.alpha(t), x_t)


# eps from x0, DDPM eq. 4 solved for the noise.
def eps_from_x0(schedule: NoiseSchedule, x_t: Sample, x0: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """Predicted noise from a clean sample; undefined at t = 0."""
    return (x_t - per_sample(schedule.alpha(t), x_t) * x0) / per_sample(schedule.sigma(t), x_t)


# x0 from v, Progressive Distillation appendix D.
def x0_from_v(schedule: NoiseSchedule, x_t: Sample, v: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """Clean sample from predicted velocity."""
    return per_sample(schedule.alpha(t), x_t) * x_t - per_sample(schedule.sigma(t), x_t) * v


# eps from v, Progressive Distillation appendix D.
def eps_from_v(schedule: NoiseSchedule, x_t: Sample, v: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """Predicted noise from predicted velocity."""
    return per_sample(schedule.sigma(t), x_t) * x_t + per_sample(schedule.alpha(t), x_t) * v


# v from x0 and noise, Progressive Distillation section 4.
def v_from_x0(schedule: NoiseSchedule, x0: Sample, noise: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """Velocity of the pair (x0, noise): alpha noise - sigma x0."""
    return per_sample(schedule.alpha(t), x0) * noise - per_sample(schedule.sigma(t), x0) * x0


def to_prediction(
    prediction_type: PredictionType,
    schedule: NoiseSchedule,
    x_t: Sample,
    output: Sample,
    t: Float[Tensor, "*times"],
    variance_fraction: Sample | None = None,
) -> Prediction:
    """Read a network's output, in the shape of x_t, as both x0 and eps."""
    match prediction_type:
        case "x0":
            return Prediction(output, eps_from_x0(schedule, x_t, output, t), variance_fraction)
        case "eps":
            return Prediction(x0_from_eps(schedule, x_t, output, t), output, variance_fraction)
        case "v":
            x0, eps = x0_from_v(schedule, x_t, output, t), eps_from_v(schedule, x_t, output, t)
            return Prediction(x0, eps, variance_fraction)
        case _:
            assert_never(prediction_type)
