"""The forward process, its posterior and its deterministic flow."""

from typing import assert_never

from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.prediction import PredictionType, v_from_x0
from unclip.diffusion.schedules import DiscreteSchedule, NoiseSchedule, per_sample
from unclip.errors import InputError
from unclip.shapes import Sample


# Forward process, DDPM eq. 4.
def add_noise(schedule: NoiseSchedule, x0: Sample, noise: Sample, t: Float[Tensor, "*times"]) -> Sample:
    """x_t for a clean sample, its noise and t, one number or (batch,)."""
    return per_sample(schedule.alpha(t), x0) * x0 + per_sample(schedule.sigma(t), x0) * noise


# The forward process from any time on, DDPM eq. 2; the step back up of RePaint algorithm 1.
def renoise(
    schedule: NoiseSchedule, x: Sample, t_from: Float[Tensor, "*times"], t_to: Float[Tensor, "*times"], noise: Sample
) -> Sample:
    """x_t at t_to >= t_from for a sample at t_from; times are one number or (batch,).

    Variances add, standard deviations do not: the missing noise is sqrt(step_beta), not a difference of sigmas.
    Raises InputError for t_to < t_from.
    """
    if bool((t_to < t_from).any()):
        raise InputError(f"renoising goes to a later time, not from t={t_from.tolist()} to {t_to.tolist()}; swap them.")
    signal = schedule.alpha(t_to) / schedule.alpha(t_from)
    return per_sample(signal, x) * x + per_sample(step_beta(schedule, t_to, t_from).sqrt(), x) * noise


def training_target(
    prediction_type: PredictionType, x0: Sample, noise: Sample, schedule: NoiseSchedule, t: Float[Tensor, "*times"]
) -> Sample:
    """What a network of this prediction type should output for x_t = add_noise(schedule, x0, noise, t)."""
    match prediction_type:
        case "x0":
            return x0
        case "eps":
            return noise
        case "v":
            return v_from_x0(schedule, x0, noise, t)
        case _:
            assert_never(prediction_type)


# Posterior mean and variance, DDPM eq. 6-7, for any step from t to t_prev < t.
def posterior(
    schedule: NoiseSchedule, x0: Sample, x_t: Sample, t: Float[Tensor, "*times"], t_prev: Float[Tensor, "*times"]
) -> tuple[Sample, Float[Tensor, "*times"]]:
    """Mean, in the shape of x_t, and log variance, in the shape of t and float64, of q(x_prev | x_t, x0)."""
    alpha_prev, sigma_prev, sigma = schedule.alpha(t_prev), schedule.sigma(t_prev), schedule.sigma(t)
    x0_weight = alpha_prev * step_beta(schedule, t, t_prev) / sigma.square()
    x_t_weight = schedule.alpha(t) / alpha_prev * sigma_prev.square() / sigma.square()
    mean = per_sample(x0_weight, x0) * x0 + per_sample(x_t_weight, x_t) * x_t
    return mean, posterior_log_variance(schedule, t, t_prev)


# Posterior variance, DDPM eq. 7, for any step from t to t_prev < t.
def posterior_log_variance(
    schedule: NoiseSchedule, t: Float[Tensor, "*times"], t_prev: Float[Tensor, "*times"]
) -> Float[Tensor, "*times"]:
    """Log variance of q(x_prev | x_t, x0), float64, at least log 1e-20: t_prev = 0 has none."""
    ratio = (schedule.sigma(t_prev) / schedule.sigma(t)).square()
    return (ratio * step_beta(schedule, t, t_prev)).clamp(min=1e-20).log()


# beta_t of DDPM eq. 2, for any step from t to t_prev < t.
def step_beta(
    schedule: NoiseSchedule, t: Float[Tensor, "*times"], t_prev: Float[Tensor, "*times"]
) -> Float[Tensor, "*times"]:
    """Variance that the forward process adds between t_prev and t, float64."""
    if isinstance(schedule, DiscreteSchedule):
        return schedule.step_beta(t, t_prev)
    return 1 - (schedule.alpha(t) / schedule.alpha(t_prev)).square()


# Learned variance, Improved DDPM eq. 15.
def learned_log_variance(
    variance_fraction: Sample, lower: Float[Tensor, "*times"], upper: Float[Tensor, "*times"]
) -> Sample:
    """Log variance between lower, the log posterior variance (fraction 0), and upper, log beta (fraction 1)."""
    low, high = per_sample(lower, variance_fraction), per_sample(upper, variance_fraction)
    return variance_fraction * high + (1 - variance_fraction) * low


# The probability-flow ODE, Score SDE eq. 13, as d(x / sigma) = x0 d(alpha / sigma).
def flow_step(
    schedule: NoiseSchedule, x_t: Sample, x0: Sample, t: Float[Tensor, "*times"], t_next: Float[Tensor, "*times"]
) -> Sample:
    """The flow from t to t_next under a constant x0.

    In these variables both coefficients stay in [0, 1]; in sigma / alpha, as EDM has it, a table that begins at
    alpha = 5e-5 multiplies the error of its first step by hundreds.
    """
    ratio = schedule.sigma(t_next) / schedule.sigma(t)
    x0_weight = schedule.alpha(t_next) - ratio * schedule.alpha(t)
    return per_sample(ratio, x_t) * x_t + per_sample(x0_weight, x0) * x0
