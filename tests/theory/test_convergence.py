"""Each sampler's order of convergence, measured on data whose exact denoiser and exact flow are known.

Data is normal, so every sampler is affine in x_T and in its noise: one run with one noise draw switched on per row
gives the mean and the variance of its result without any random number.
"""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from normal_data import NormalDenoiser
from unclip.diffusion import SAMPLERS, CosineSchedule, Sampler, ddim, ddpm

SCHEDULE = CosineSchedule()
START, END = 0.9, 0.1
MEAN = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.04, 0.25, 4.0], dtype=torch.float64)
POINT = torch.tensor([[0.7, -1.2, 1.9]], dtype=torch.float64)
TOLERANCE = 0.1
DENOISER = NormalDenoiser(SCHEDULE, MEAN, VARIANCE)


def exact_moments() -> Tensor:
    """Mean and variance of x_END given x_START = POINT, from their joint normal distribution."""
    gain = SCHEDULE.alpha(START) / SCHEDULE.alpha(END) * DENOISER.variance_at(END) / DENOISER.variance_at(START)
    mean = SCHEDULE.alpha(END) * MEAN + gain * (POINT - SCHEDULE.alpha(START) * MEAN)
    return torch.cat([mean, (DENOISER.variance_at(END) - gain**2 * DENOISER.variance_at(START))[None]])


def run(sampler: Sampler, num_steps: int, stochastic: bool) -> Tensor:
    """The sampler's result from POINT, or under noise its mean and variance."""
    times = torch.linspace(START, END, num_steps + 1, dtype=torch.float64)
    if not stochastic:
        return list(sampler(DENOISER, POINT, times))[-1].x_t
    rows = iter(torch.eye(num_steps + 1, dtype=torch.float64)[1:])  # Row k + 1 receives draw k, row 0 none.
    x_T = POINT.repeat(num_steps + 1, 1)
    result = list(sampler(DENOISER, x_T, times, lambda: next(rows)[:, None].expand_as(x_T)))[-1].x_t
    return torch.stack([result[0], (result[1:] - result[0]).square().sum(0)])


def measured_order(sampler: Sampler, stochastic: bool) -> float:
    """Slope of log error against log step size between 160 and 320 steps."""
    exact = exact_moments() if stochastic else DENOISER.flow(POINT, START, END)
    coarse, fine = ((run(sampler, num_steps, stochastic) - exact).abs().max() for num_steps in (160, 320))
    return math.log2(coarse / fine)


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_is_the_declared_one(name: str) -> None:
    spec = SAMPLERS[name]
    assert abs(measured_order(spec.sample, spec.stochastic) - spec.order) < TOLERANCE


def test_ddim_with_noise_is_of_first_order() -> None:
    assert abs(measured_order(partial(ddim, eta=1.0), stochastic=True) - 1) < TOLERANCE


def test_ddpm_with_large_variance_is_of_first_order() -> None:
    assert abs(measured_order(partial(ddpm, variance="large"), stochastic=True) - 1) < TOLERANCE


def test_every_sampler_converges_to_the_exact_answer() -> None:
    for spec in SAMPLERS.values():
        exact = exact_moments() if spec.stochastic else DENOISER.flow(POINT, START, END)
        tolerance = 0.05 if spec.order == 1 else 2e-4
        torch.testing.assert_close(run(spec.sample, 320, spec.stochastic), exact, rtol=0, atol=tolerance, msg=spec.name)


def test_whole_way_to_clean_has_the_distribution_of_the_data() -> None:
    """From t = 0.999 to 0 the flow maps N(0, 1) to the data: the quantile z lands on MEAN + z std."""
    times = torch.cat([torch.linspace(0.999, 0.002, 400, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    quantiles = torch.tensor([[-2.0], [0.0], [1.0]], dtype=torch.float64).expand(3, 3)
    x_T = SCHEDULE.alpha(times[0]) * MEAN + quantiles * DENOISER.variance_at(times[0]).sqrt()
    for name, spec in itertools.filterfalse(lambda item: item[1].stochastic, SAMPLERS.items()):
        result = list(spec.sample(DENOISER, x_T, times))[-1].x_t
        expected = MEAN + quantiles * VARIANCE.sqrt()
        torch.testing.assert_close(result, expected, rtol=0, atol=0.02 if spec.order == 1 else 2e-3, msg=name)
