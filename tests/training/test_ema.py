"""Averages of weights against closed forms of their profiles."""

import copy
import math

import pytest
import torch
from torch import nn

from unclip.errors import ConfigError
from unclip.training.averages import AverageRule, Averages, ema_decay, power_exponent

WIDTHS = (0.05, 0.1, 0.25)


def average(values: torch.Tensor, rule: AverageRule, batch_size: int) -> list[float]:
    """The averages of a weight that had these values after each batch, the first of them at the start."""
    network = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(values[0])
        averages = Averages([copy.deepcopy(network) for _ in range(len(rule))], rule)
        for step, value in enumerate(values, start=1):
            network.weight.fill_(value)
            averages.update(network, batch_size, step * batch_size)
    return [average.weight.item() for average in averages.networks]


# EDM2, section 3.1, and its two defaults.
def test_the_exponent_solves_the_equation_of_the_width() -> None:
    for width in WIDTHS:
        gamma = power_exponent(width)
        assert math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3)) == pytest.approx(width, rel=1e-9)
    assert power_exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert power_exponent(0.1) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.29, math.inf])
def test_widths_that_no_profile_has_are_refused(width: float) -> None:
    with pytest.raises(ConfigError, match=r"is no width of an average; give one above 0 and below 0\.2887"):
        AverageRule(sigma_rel=(0.1, width))
    with pytest.raises(ConfigError, match="a power-function average needs a width"):
        AverageRule()


def test_each_batch_counts_as_the_power_function_over_its_time() -> None:
    """Step k of n weighs (k/n)^(gamma+1) - ((k-1)/n)^(gamma+1): the integral of the profile, so sums are exact."""
    values = torch.randn(60, dtype=torch.float64)
    edges = torch.arange(61, dtype=torch.float64) / 60
    for width, found in zip(WIDTHS, average(values, AverageRule(sigma_rel=WIDTHS), 7), strict=True):
        share = (edges ** (power_exponent(width) + 1)).diff()
        assert found == pytest.approx(float((share * values).sum()), abs=1e-12)


def test_the_deviation_of_the_profile_is_the_width() -> None:
    """Of the time that a weight was seen at: averages of t and of t squared give its variance, up to 1 / n."""
    time = torch.arange(1, 4001, dtype=torch.float64) / 4000
    rule = AverageRule(sigma_rel=WIDTHS)
    for width, mean, square in zip(WIDTHS, average(time, rule, 1), average(time**2, rule, 1), strict=True):
        assert math.sqrt(square - mean**2) == pytest.approx(width, rel=1e-3)


def test_an_average_is_frozen_and_moves_by_one_minus_the_decay() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averages = Averages([copy.deepcopy(network)], AverageRule(half_life=100.0))
    before = network[0].weight.detach().clone()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    averages.update(network, 10, 10**9)
    (found,) = averages.networks
    torch.testing.assert_close(found[0].weight, before + 1.0 - ema_decay(10, 10**9, 100.0))
    assert all(torch.equal(a, b) for a, b in zip(found.buffers(), network.buffers(), strict=True))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert averages.rule.weights(10, 10**9) == (1 - ema_decay(10, 10**9, 100.0),)
