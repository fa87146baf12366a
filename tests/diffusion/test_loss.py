"""Losses: weights weigh x0 alike for all targets, and the variational bound teaches the variance alone."""

import itertools
import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from unclip.diffusion import (
    Prediction,
    PredictionType,
    Weighting,
    add_noise,
    cosine_schedule,
    diffusion_loss,
    loss_weight,
    posterior,
    training_target,
)
from unclip.diffusion.loss import variational_bound
from unclip.diffusion.prediction import to_prediction
from unclip.diffusion.process import step_beta
from unclip.errors import ConfigError

SCHEDULE = cosine_schedule()
T = SCHEDULE.time(torch.tensor([0, 1, 30, 400, 800, 999]))
TYPES: tuple[PredictionType, ...] = get_args(PredictionType)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x0, noise = torch.randn(6, 3, 4, 4, dtype=dtype).clamp(-1, 1), torch.randn(6, 3, 4, 4, dtype=dtype)
    return x0, noise, add_noise(SCHEDULE, x0, noise, T)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_uniform_loss_is_the_mean_squared_error_of_each_sample(prediction_type: PredictionType) -> None:
    x0, noise, x_t = batch()
    target = training_target(prediction_type, x0, noise, SCHEDULE, T)
    error = torch.arange(6.0)[:, None, None, None]
    ours = diffusion_loss(target + error, prediction_type, SCHEDULE, x0, noise, x_t, T)
    torch.testing.assert_close(ours, torch.arange(6.0) ** 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", ["min_snr", "p2"])
def test_weighted_loss_is_the_same_for_every_prediction_type(weighting: Weighting) -> None:
    """One and the same x0 estimate, written as x0, eps or v, costs the same."""
    x0, noise, x_t = batch(torch.float64)
    estimate = Prediction(x0 + 0.1, (x_t - alpha_of(T) * (x0 + 0.1)) / sigma_of(T))
    outputs = {"x0": estimate.x0, "eps": estimate.eps, "v": alpha_of(T) * estimate.eps - sigma_of(T) * estimate.x0}
    errors = [
        loss_weight(weighting, SCHEDULE, T, kind)
        * (outputs[kind] - training_target(kind, x0, noise, SCHEDULE, T)).square().mean((1, 2, 3))
        for kind in TYPES
    ]
    for first, second in itertools.pairwise(errors):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=0)


def alpha_of(t: Tensor) -> Tensor:
    return SCHEDULE.alpha(t)[:, None, None, None]


def sigma_of(t: Tensor) -> Tensor:
    return SCHEDULE.sigma(t)[:, None, None, None]


def test_weights_are_the_published_ones() -> None:
    snr = SCHEDULE.alpha(T) ** 2 / SCHEDULE.sigma(T) ** 2
    torch.testing.assert_close(loss_weight("min_snr", SCHEDULE, T, "eps"), (5 / snr).clamp(max=1))
    torch.testing.assert_close(loss_weight("min_snr", SCHEDULE, T, "x0"), snr.clamp(max=5))
    torch.testing.assert_close(loss_weight("min_snr", SCHEDULE, T, "v"), snr.clamp(max=5) / (snr + 1))
    torch.testing.assert_close(loss_weight("p2", SCHEDULE, T, "eps"), 1 / (1 + snr))
    for kind in TYPES:
        assert torch.equal(loss_weight("uniform", SCHEDULE, T, kind), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("prediction_type", TYPES)
def test_the_bound_moves_the_variance_and_never_the_mean(prediction_type: PredictionType) -> None:
    x0, noise, x_t = batch()
    output = torch.randn(6, 6, 4, 4, requires_grad=True)
    diffusion_loss(output, prediction_type, SCHEDULE, x0, noise, x_t, T, "uniform", True).sum().backward()
    mean = output.detach()[:, :3].requires_grad_()
    diffusion_loss(mean, prediction_type, SCHEDULE, x0, noise, x_t, T).sum().backward()
    assert output.grad is not None
    assert mean.grad is not None
    torch.testing.assert_close(output.grad[:, :3], mean.grad)
    assert bool((output.grad[:, 3:].flatten(1).abs().amax(1)[1:] > 0).all())


def test_the_bound_is_the_same_for_every_prediction_type() -> None:
    """The same x0 estimate and variance, written as x0, eps or v: the bound reads each as what it is."""
    x0, noise, x_t = batch()
    true_type = {kind: training_target(kind, x0 * 0.9, noise_for(x_t, x0 * 0.9), SCHEDULE, T) for kind in TYPES}
    variance = torch.rand(6, 3, 4, 4) * 2 - 1
    bounds = []
    for kind, mean in true_type.items():
        args = (kind, SCHEDULE, x0, noise, x_t, T, "uniform")
        both = diffusion_loss(torch.cat([mean, variance], 1), *args, learned_variance=True, vlb_weight=1.0)
        bounds.append((both - diffusion_loss(mean, *args))[:5])  # At the last step eps holds no digits of x0.
    torch.testing.assert_close(bounds[1], bounds[0], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(bounds[2], bounds[0], rtol=1e-3, atol=1e-2)


def noise_for(x_t: Tensor, x0: Tensor) -> Tensor:
    return ((x_t - alpha_of(T) * x0) / sigma_of(T)).float()


def test_the_bound_is_the_divergence_in_bits() -> None:
    """Against torch.distributions, with the variances written out as in DDPM."""
    x0, _, x_t = batch()
    fraction = torch.rand(6, 3, 4, 4)
    prediction = Prediction(x0 + 0.2, x0, fraction)
    ours = variational_bound(prediction, SCHEDULE, x0, x_t, T)
    t_prev = SCHEDULE.time(torch.tensor([-1, 0, 29, 399, 799, 998]))
    true_mean, true_log_variance = posterior(SCHEDULE, x0, x_t, T, t_prev)
    mean, _ = posterior(SCHEDULE, prediction.x0, x_t, T, t_prev)
    lower, upper = true_log_variance.exp().float(), step_beta(SCHEDULE, T, t_prev).float()
    for k in range(1, 6):
        std = (lower[k].log() * (1 - fraction[k]) + upper[k].log() * fraction[k]).mul(0.5).exp()
        truth = torch.distributions.Normal(true_mean[k], lower[k].sqrt())
        kl = torch.distributions.kl_divergence(truth, torch.distributions.Normal(mean[k], std)).mean() / math.log(2)
        torch.testing.assert_close(ours[k], kl, rtol=1e-3, atol=1e-5)


def test_first_step_is_the_likelihood_of_256_levels() -> None:
    """A mean on the right level with a tight variance leaves nearly no bits; one that is off costs many."""
    x0 = (torch.randint(0, 256, (1, 3, 8, 8)) / 127.5 - 1).float()
    t = SCHEDULE.time(torch.tensor([0]))
    x_t = add_noise(SCHEDULE, x0, torch.randn_like(x0), t)
    bits = [
        variational_bound(Prediction(x0 + shift, x0, torch.zeros_like(x0)), SCHEDULE, x0, x_t, t).item()
        for shift in (0.0, 0.02, 0.5)
    ]
    assert 0 <= bits[0] < 1.5
    assert bits[0] < bits[1] < bits[2]


def test_vlb_weight_counts_all_steps() -> None:
    x0, noise, x_t = batch()
    output = torch.randn(6, 6, 4, 4)
    plain, weighted = (
        diffusion_loss(output, "eps", SCHEDULE, x0, noise, x_t, T, "uniform", True, vlb_weight)
        for vlb_weight in (0.0, 0.001)
    )
    prediction = to_prediction("eps", SCHEDULE, x_t, output[:, :3], T, (output[:, 3:] + 1) / 2)
    torch.testing.assert_close(
        weighted - plain, variational_bound(prediction, SCHEDULE, x0, x_t, T), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_losses_are_finite_float32_everywhere(prediction_type: PredictionType, weighting: Weighting) -> None:
    t = SCHEDULE.time(torch.arange(1000))
    x0, noise = torch.rand(1000, 3, 2, 2) * 2 - 1, torch.randn(1000, 3, 2, 2)
    x_t = add_noise(SCHEDULE, x0, noise, t)
    output = torch.randn(1000, 6, 2, 2).bfloat16()
    loss = diffusion_loss(output, prediction_type, SCHEDULE, x0, noise, x_t, t.float(), weighting, True)
    assert loss.dtype == torch.float32
    assert loss.shape == (1000,)
    assert bool(loss.isfinite().all())


def test_a_table_of_one_step_trains() -> None:
    schedule, x0, noise = cosine_schedule(1), torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    t = torch.ones(2)
    x_t = add_noise(schedule, x0, noise, t)
    assert bool(
        diffusion_loss(torch.zeros(2, 6, 4, 4), "eps", schedule, x0, noise, x_t, t, "uniform", True).isfinite().all()
    )


def test_missing_variance_channels_are_named() -> None:
    x0, noise, x_t = batch()
    with pytest.raises(ConfigError, match="learned_variance=True needs 6"):
        diffusion_loss(x0, "eps", SCHEDULE, x0, noise, x_t, T, "uniform", True)
