"""The posterior against brute force on a grid, and the variational bound against numerical integrals."""

import numpy as np
import pytest
import torch
from scipy import stats

from unclip.diffusion import cosine_schedule, linear_schedule, posterior
from unclip.diffusion.loss import discretized_log_likelihood, normal_kl
from unclip.diffusion.process import learned_log_variance, posterior_log_variance, step_beta

TABLES = [cosine_schedule(), linear_schedule(), cosine_schedule(10)]
X0, X_T = 0.6, -0.4


@pytest.mark.parametrize("schedule", TABLES, ids=repr)
@pytest.mark.parametrize(("t", "t_prev"), [(0.5, 0.4), (0.9, 0.2), (0.7, 0.1), (1.0, 0.9)])
def test_posterior_is_bayes_rule(schedule, t: float, t_prev: float) -> None:
    """q(x_prev | x_t, x0) is q(x_prev | x0) q(x_t | x_prev), normalised: here summed on a grid."""
    alpha, alpha_prev, sigma_prev = (
        float(a) for a in (schedule.alpha(t), schedule.alpha(t_prev), schedule.sigma(t_prev))
    )
    transition = np.sqrt(float(schedule.sigma(t)) ** 2 - (alpha / alpha_prev * sigma_prev) ** 2)
    grid = np.linspace(alpha_prev * X0 - 12 * sigma_prev, alpha_prev * X0 + 12 * sigma_prev, 200_001)
    density = stats.norm.pdf(grid, alpha_prev * X0, sigma_prev) * stats.norm.pdf(
        X_T, alpha / alpha_prev * grid, transition
    )
    density /= density.sum()
    mean = (grid * density).sum()
    variance = ((grid - mean) ** 2 * density).sum()

    x0, x_t = torch.full((1, 1), X0, dtype=torch.float64), torch.full((1, 1), X_T, dtype=torch.float64)
    ours, log_variance = posterior(schedule, x0, x_t, torch.tensor(t).double(), torch.tensor(t_prev).double())
    assert ours.item() == pytest.approx(mean, abs=1e-7)
    assert log_variance.exp().item() == pytest.approx(variance, rel=1e-6)


def test_one_step_beta_is_the_beta_of_the_table() -> None:
    schedule = linear_schedule()
    indices = torch.arange(1000)
    beta = step_beta(schedule, schedule.time(indices), schedule.time(indices - 1))
    torch.testing.assert_close(beta, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), rtol=1e-9, atol=0)


def test_two_posterior_steps_are_one() -> None:
    """Going t -> s -> r with x0 known is going t -> r: means chain, variances add up with the squared gain."""
    schedule = cosine_schedule()
    t, s, r = (torch.tensor(value).double() for value in (0.8, 0.5, 0.2))
    x0, x_t = torch.full((1, 1), X0, dtype=torch.float64), torch.full((1, 1), X_T, dtype=torch.float64)
    mean_s, log_variance_s = posterior(schedule, x0, x_t, t, s)
    mean_r, log_variance_r = posterior(schedule, x0, mean_s, s, r)
    gain = posterior(schedule, x0, mean_s + 1, s, r)[0] - mean_r
    direct, log_variance = posterior(schedule, x0, x_t, t, r)
    torch.testing.assert_close(mean_r, direct)
    torch.testing.assert_close(
        log_variance_r.exp() + gain.square().squeeze() * log_variance_s.exp(), log_variance.exp()
    )


def test_last_step_keeps_x0_and_a_finite_log_variance() -> None:
    schedule = cosine_schedule()
    x0, x_t = torch.full((1, 1), X0), torch.full((1, 1), X_T)
    mean, log_variance = posterior(schedule, x0, x_t, schedule.time(0), schedule.time(-1))
    assert torch.equal(mean, x0)
    assert log_variance.item() == pytest.approx(np.log(1e-20))


def test_posterior_takes_one_time_per_sample() -> None:
    schedule = cosine_schedule()
    t, t_prev = torch.tensor([0.3, 0.9]).double(), torch.tensor([0.1, 0.8]).double()
    x0, x_t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mean, log_variance = posterior(schedule, x0, x_t, t, t_prev)
    for k in range(2):
        alone, alone_log_variance = posterior(schedule, x0[k : k + 1], x_t[k : k + 1], t[k], t_prev[k])
        torch.testing.assert_close(mean[k : k + 1], alone)
        torch.testing.assert_close(log_variance[k], alone_log_variance)


def test_learned_variance_runs_from_posterior_to_beta() -> None:
    schedule = cosine_schedule()
    t, t_prev = schedule.time(500), schedule.time(460)
    lower, upper = posterior_log_variance(schedule, t, t_prev), step_beta(schedule, t, t_prev).log()
    ours = learned_log_variance(torch.tensor([[0.0], [0.5], [1.0]], dtype=torch.float64), lower, upper)
    torch.testing.assert_close(ours.squeeze(), torch.stack([lower, (lower + upper) / 2, upper]))


def test_normal_kl_is_the_integral() -> None:
    first, second = stats.norm(0.3, 0.5), stats.norm(-0.2, 0.9)
    integral = first.expect(lambda x: first.logpdf(x) - second.logpdf(x), lb=-8, ub=8)
    arguments = (torch.tensor(value).double() for value in (0.3, 2 * np.log(0.5), -0.2, 2 * np.log(0.9)))
    assert normal_kl(*arguments).item() == pytest.approx(integral, rel=1e-6)


def test_bins_of_the_likelihood_are_those_of_scipy() -> None:
    levels = torch.linspace(-1, 1, 256)[None]
    mean, std = 0.2, 0.05
    ours = discretized_log_likelihood(levels, torch.full_like(levels, mean), torch.full_like(levels, 2 * np.log(std)))
    edges = np.concatenate([[-np.inf], np.linspace(-1, 1, 256)[:-1] + 1 / 255, [np.inf]])
    expected = np.log(np.maximum(np.diff(stats.norm(mean, std).cdf(edges)), 1e-300))
    torch.testing.assert_close(ours.exp().sum(), torch.tensor(1.0), rtol=1e-5, atol=0)
    likely = expected > -20
    torch.testing.assert_close(ours[0][likely], torch.from_numpy(expected[likely]).float(), rtol=1e-3, atol=1e-3)
