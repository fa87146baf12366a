"""DDIM inversion on normal data: its order, its exact limit, and the noise that it finds."""

import math

import pytest
import torch
from torch import Tensor

from normal_data import NormalDenoiser
from unclip.diffusion import CosineSchedule, bind, clip_x0, cosine_schedule, ddim, invert, time_grid
from unclip.errors import InputError

MEAN = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.04, 0.25, 4.0], dtype=torch.float64)
POINT = torch.tensor([[0.7, -1.2, 1.9]], dtype=torch.float64)
SMOOTH = NormalDenoiser(CosineSchedule(), MEAN, VARIANCE)
TABLE = NormalDenoiser(cosine_schedule(), MEAN, VARIANCE)


def inverted(denoiser: NormalDenoiser, x0: Tensor, times: Tensor, num_refinements: int = 0) -> Tensor:
    return list(invert(denoiser, x0, times, num_refinements))[-1].x_t


def round_trip_error(denoiser: NormalDenoiser, times: Tensor, num_refinements: int = 0) -> float:
    x_T = inverted(denoiser, POINT, times, num_refinements)
    return float((list(ddim(denoiser, x_T, times))[-1].x_t - POINT).abs().max())


def even(num_steps: int) -> Tensor:
    return torch.linspace(0.9, 0.1, num_steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("num_refinements", [0, 1, 2])
def test_each_refinement_raises_the_order_of_the_round_trip_by_one(num_refinements: int) -> None:
    coarse, fine = (round_trip_error(SMOOTH, even(num_steps), num_refinements) for num_steps in (40, 80))
    assert abs(math.log2(coarse / fine) - (1 + num_refinements)) < 0.1


@pytest.mark.parametrize("num_steps", [1, 2, 8])
def test_with_many_refinements_the_round_trip_is_exact(num_steps: int) -> None:
    assert round_trip_error(SMOOTH, even(num_steps), 150) < 1e-11


@pytest.mark.parametrize("num_steps", [4, 12])
def test_from_the_clean_end_to_the_last_table_point_and_back(num_steps: int) -> None:
    """alpha is 5e-5 at the one and sigma 0 at the other."""
    assert round_trip_error(TABLE, time_grid(TABLE.schedule, num_steps, sigma_min=0.1), 200) < 1e-9


def test_order_holds_for_the_flow_itself() -> None:
    """Not only is the way back the inverse: x_T converges to where the exact flow goes."""
    errors = [(inverted(SMOOTH, POINT, even(n)) - SMOOTH.flow(POINT, 0.1, 0.9)).abs().max() for n in (80, 160)]
    assert abs(math.log2(errors[0] / errors[1]) - 1) < 0.1


def exact_noise_std(times: Tensor) -> Tensor:
    """ddim multiplies by a slope in each interval, so its inverse spreads data by the product of 1 / slope."""
    alpha, sigma = TABLE.schedule.alpha(times)[:, None], TABLE.schedule.sigma(times)[:, None]
    overlap = alpha[1:] * alpha[:-1] * VARIANCE + sigma[1:] * sigma[:-1]
    slope = overlap / (alpha[:-1].square() * VARIANCE + sigma[:-1].square())
    return VARIANCE.sqrt() / slope.prod(0)


def test_noise_of_normal_data_is_normal_with_the_variance_of_the_closed_form() -> None:
    times = time_grid(TABLE.schedule, 12, sigma_min=0.1)
    z = torch.tensor([[-2.0], [0.0], [1.0]], dtype=torch.float64)
    x_T = inverted(TABLE, MEAN + z * VARIANCE.sqrt(), times, 200)
    expected = TABLE.schedule.alpha(times[0]) * MEAN + z * exact_noise_std(times)
    torch.testing.assert_close(x_T, expected, rtol=1e-8, atol=1e-8)


def test_with_small_steps_the_noise_of_normal_data_is_standard_normal() -> None:
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(exact_noise_std(time_grid(TABLE.schedule, 1000)), ones, rtol=0, atol=0.02)


def test_directions_of_very_different_variance_come_back_from_few_steps() -> None:
    """Pictures vary by thousands in their mean and by thousandths in their detail; the refinements still contract."""
    variance = torch.logspace(-3, 3, 30, dtype=torch.float64)
    denoiser = NormalDenoiser(cosine_schedule(), torch.zeros(30, dtype=torch.float64), variance)
    x0 = torch.randn(1, 30, dtype=torch.float64) * variance.sqrt()
    times = time_grid(denoiser.schedule, 10, sigma_min=0.1)
    errors = []
    for num_refinements in (0, 1, 5, 100):
        back = list(ddim(denoiser, inverted(denoiser, x0, times, num_refinements), times))[-1].x_t
        errors.append(float((back - x0).norm() / x0.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3
    assert errors[1] < 0.05
    assert errors[-1] < 1e-3


def test_steps_climb_the_grid_and_are_made_when_asked_for() -> None:
    times, calls = time_grid(TABLE.schedule, 6), []

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        calls.append(float(timestep[0]))
        return 0.5 * x_t

    denoiser = bind(network, cosine_schedule(), "x0", {})
    steps = invert(denoiser, POINT.float(), times, num_refinements=2)
    assert calls == []
    first = next(steps)
    assert calls == [0, 0, 0]
    rest = list(steps)
    assert len(calls) == 18
    assert [step.t for step in [first, *rest]] == times.flip(0)[1:].tolist()
    assert [step.index for step in [first, *rest]] == list(range(6))
    assert {step.num_steps for step in [first, *rest]} == {6}
    assert {step.x_t.dtype for step in rest} == {torch.float32}


def test_inversion_is_finite_in_float32_through_guidance_wrappers() -> None:
    denoiser = clip_x0(bind(lambda x_t, timestep: torch.tanh(x_t), cosine_schedule(), "eps", {}))
    x0 = torch.rand(2, 3, 4, 4) * 2 - 1
    x_T = list(invert(denoiser, x0, time_grid(cosine_schedule(), 20), 2))[-1].x_t
    assert bool(x_T.isfinite().all())
    assert float(x_T.abs().max()) < 10


def test_negative_refinements_are_refused() -> None:
    with pytest.raises(InputError, match="num_refinements=-1 is below 0"):
        inverted(TABLE, POINT, even(2), -1)


def test_times_that_do_not_fall_are_refused() -> None:
    with pytest.raises(InputError, match="fall inside"):
        inverted(TABLE, POINT, even(2).flip(0))
