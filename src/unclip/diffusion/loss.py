"""Training losses of a diffusion network, one value per sample."""

import math
from typing import Literal, assert_never

import torch
from torch import Tensor

from unclip.diffusion.denoiser import split_variance
from unclip.diffusion.prediction import Prediction, PredictionType, to_prediction
from unclip.diffusion.process import learned_log_variance, posterior, posterior_log_variance, step_beta, training_target
from unclip.diffusion.schedules import DiscreteSchedule, NoiseSchedule, per_sample
from unclip.shapes import Sample, Timesteps

Weighting = Literal["uniform", "min_snr", "p2"]


def diffusion_loss(
    output: Tensor,
    prediction_type: PredictionType,
    schedule: DiscreteSchedule,
    x0: Sample,
    noise: Sample,
    x_t: Sample,
    t: Timesteps,
    weighting: Weighting = "uniform",
    learned_variance: bool = False,
    vlb_weight: float = 0.001,
) -> Timesteps:
    """Weighted squared error of a network's output, plus the variational bound where it learns its variance.

    output: in the shape of x_t, or with twice its channels under learned_variance. t: table points, index + 1 over T.
    float32 (batch,) whatever the inputs are. vlb_weight multiplies the bound of all T steps, in bits per dimension.
    """
    output, x0, noise, x_t = output.float(), x0.float(), noise.float(), x_t.float()
    mean, variance_fraction = split_variance(output, x_t, learned_variance)
    target = training_target(prediction_type, x0, noise, schedule, t)
    loss = loss_weight(weighting, schedule, t, prediction_type).to(mean) * sample_mean((mean - target).square())
    if variance_fraction is None:
        return loss
    # The bound teaches the variance only: L_simple alone moves the mean (Improved DDPM section 3.1).
    prediction = to_prediction(prediction_type, schedule, x_t, mean.detach(), t, variance_fraction)
    return loss + vlb_weight * schedule.num_timesteps * variational_bound(prediction, schedule, x0, x_t, t)


# Improved DDPM eq. 4-7, one term: KL(q(x_prev | x_t, x0) || p(x_prev | x_t)), or at the first step -log p(x0 | x_1).
def variational_bound(
    prediction: Prediction, schedule: DiscreteSchedule, x0: Sample, x_t: Sample, t: Timesteps
) -> Timesteps:
    """The bound's term for the step from t to the table point below it, in bits per dimension.

    The prediction must hold a variance fraction. At the first step x0 counts as 256 levels in [-1, 1].
    """
    assert prediction.variance_fraction is not None, "variational_bound needs a learned variance"
    step = 1 / schedule.num_timesteps
    t_prev = schedule.time(schedule.timestep(t) - 1)
    true_mean, true_log_variance = posterior(schedule, x0, x_t, t, t_prev)
    mean, _ = posterior(schedule, prediction.x0, x_t, t, t_prev)
    # The first step's posterior variance is 0, so its lower bound is that of the second (Improved DDPM's code).
    t_lower = t.double().clamp(min=min(2 * step, 1.0))
    lower = posterior_log_variance(schedule, t_lower, t_lower - step)
    log_variance = learned_log_variance(prediction.variance_fraction, lower, step_beta(schedule, t, t_prev).log())
    kl = normal_kl(true_mean, per_sample(true_log_variance, x0), mean, log_variance)
    nll = -discretized_log_likelihood(x0, mean, log_variance)
    is_first = (t_prev <= 0).to(x0.device)
    return torch.where(is_first, sample_mean(nll), sample_mean(kl)) / math.log(2)


# KL divergence of two normal distributions, in nats per coordinate.
def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N(mean1, exp(log_variance1)) || N(mean2, exp(log_variance2))); shapes broadcast."""
    difference = log_variance1 - log_variance2
    return 0.5 * (difference.exp() - difference - 1 + (mean1 - mean2).square() * (-log_variance2).exp())


# Likelihood of one of 256 levels under a normal distribution, DDPM eq. 13.
def discretized_log_likelihood(x0: Sample, mean: Sample, log_variance: Sample) -> Sample:
    """Log probability per coordinate of the bin, 2/255 wide, around x0 in [-1, 1]; the outer bins reach to infinity."""
    inverse_std = (-0.5 * log_variance).exp()
    upper, lower = (x0 - mean + 1 / 255) * inverse_std, (x0 - mean - 1 / 255) * inverse_std
    # On the upper side the mirrored difference is taken, where float32 still tells the two probabilities apart.
    mirrored = lower > 0
    high, low = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
    inside = (normal_cdf(high) - normal_cdf(low)).clamp(min=1e-12).log()
    at_top = torch.where(x0 > 0.999, torch.special.log_ndtr(-lower), inside)
    return torch.where(x0 < -0.999, torch.special.log_ndtr(upper), at_top)


# The normal distribution function through erfc: torch.special.ndtr has no digits left below -5 in float32.
def normal_cdf(x: Tensor) -> Tensor:
    """Probability that a standard normal number is below x."""
    return 0.5 * torch.erfc(-x * math.sqrt(0.5))


# Weight as a function of the signal-to-noise ratio: min-SNR-gamma (Hang et al. section 3.4), P2 (Choi et al. eq. 8).
def loss_weight(kind: Weighting, schedule: NoiseSchedule, t: Timesteps, prediction_type: PredictionType) -> Timesteps:
    """Factor on the squared error of a network's own target at t > 0, float64.

    "uniform" is 1 for every prediction type. "min_snr" (gamma 5) and "p2" (k 1, gamma 1) weigh the error of x0 by
    min(SNR, 5) and SNR / (1 + SNR), so prediction types differ in what the network outputs, not in what counts.
    """
    snr = (schedule.alpha(t) / schedule.sigma(t)).square()
    match kind:
        case "uniform":
            return torch.ones_like(snr)
        case "min_snr":
            return snr.clamp(max=5) / target_error_ratio(prediction_type, snr)
        case "p2":
            return snr / (1 + snr) / target_error_ratio(prediction_type, snr)
        case _:
            assert_never(kind)


# Squared errors of x0, eps and v for one network output, Progressive Distillation section 4.
def target_error_ratio(prediction_type: PredictionType, snr: Timesteps) -> Timesteps:
    """Squared error of the target over the squared error of x0: 1, SNR or SNR + 1."""
    match prediction_type:
        case "x0":
            return torch.ones_like(snr)
        case "eps":
            return snr
        case "v":
            return snr + 1
        case _:
            assert_never(prediction_type)


def sample_mean(x: Sample) -> Timesteps:
    """Mean over everything but the batch."""
    return x.flatten(1).mean(1)
