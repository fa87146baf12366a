"""The forward process and the conversions between x0, eps and v are inverses of each other."""

import itertools
from typing import get_args

import pytest
import torch

from unclip.diffusion import (
    CosineSchedule,
    NoiseSchedule,
    PredictionType,
    add_noise,
    cosine_schedule,
    linear_schedule,
    renoise,
    training_target,
)
from unclip.diffusion.prediction import to_prediction
from unclip.diffusion.process import flow_step
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
TIMES = [torch.tensor(0.3).double(), torch.tensor([0.001, 0.4, 0.95])]


def pair(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, 4, 5, dtype=dtype), torch.randn(3, 2, 4, 5, dtype=dtype)


@pytest.mark.parametrize("prediction_type", get_args(PredictionType))
@pytest.mark.parametrize("t", TIMES, ids=["one time", "one per sample"])
def test_a_perfect_network_gives_back_x0_and_noise(prediction_type: PredictionType, t: torch.Tensor) -> None:
    x0, noise = pair()
    x_t = add_noise(SCHEDULE, x0, noise, t)
    output = training_target(prediction_type, x0, noise, SCHEDULE, t)
    prediction = to_prediction(prediction_type, SCHEDULE, x_t, output, t)
    torch.testing.assert_close(prediction.x0, x0)
    torch.testing.assert_close(prediction.eps, noise)


@pytest.mark.parametrize("prediction_type", get_args(PredictionType))
def test_x0_and_eps_agree_for_any_output(prediction_type: PredictionType) -> None:
    x_t, output = pair()
    prediction = to_prediction(prediction_type, SCHEDULE, x_t, output, TIMES[1])
    torch.testing.assert_close(add_noise(SCHEDULE, prediction.x0, prediction.eps, TIMES[1]), x_t)


def test_noised_data_has_unit_variance() -> None:
    x0, noise = torch.randn(20_000, 1), torch.randn(20_000, 1)
    for t in (0.1, 0.5, 0.9):
        x_t = add_noise(SCHEDULE, x0, noise, torch.tensor(t))
        assert float(x_t.var()) == pytest.approx(1, abs=0.04)


def test_float32_stays_float32() -> None:
    x0, noise = pair(torch.float32)
    for t in TIMES:
        assert add_noise(SCHEDULE, x0, noise, t).dtype == torch.float32
        assert training_target("v", x0, noise, SCHEDULE, t).dtype == torch.float32


def test_inputs_are_left_alone() -> None:
    x0, noise = pair()
    copies = x0.clone(), noise.clone()
    add_noise(SCHEDULE, x0, noise, TIMES[1])
    training_target("v", x0, noise, SCHEDULE, TIMES[1])
    assert torch.equal(x0, copies[0])
    assert torch.equal(noise, copies[1])


def test_flow_under_the_true_x0_keeps_the_noise() -> None:
    x0, noise = pair()
    x_t, expected = (add_noise(SCHEDULE, x0, noise, torch.tensor(t).double()) for t in (0.9, 0.2))
    t, t_next = torch.tensor(0.9).double(), torch.tensor(0.2).double()
    torch.testing.assert_close(flow_step(SCHEDULE, x_t, x0, t, t_next), expected)


def coefficients(t_from: torch.Tensor, t_to: torch.Tensor, schedule: NoiseSchedule = SCHEDULE) -> torch.Tensor:
    """What renoise multiplies the sample and the noise by, read off from unit vectors."""
    x, noise = torch.eye(2, dtype=torch.float64)
    return renoise(schedule, x[None], t_from, t_to, noise[None])[0]


@pytest.mark.parametrize("schedule", [SCHEDULE, linear_schedule(), linear_schedule(20), CosineSchedule()])
def test_renoising_a_sample_gives_the_forward_marginal(schedule: NoiseSchedule) -> None:
    """Of alpha x0 + sigma noise at t_from it makes alpha x0 + sigma noise at t_to: means and variances add up."""
    for t_from, t_to in torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.05, 0.999], [0.5, 0.501]]).double():
        signal, fresh = coefficients(t_from, t_to, schedule)
        torch.testing.assert_close(signal * schedule.alpha(t_from), schedule.alpha(t_to))
        variance = (signal * schedule.sigma(t_from)).square() + fresh.square()
        torch.testing.assert_close(variance, schedule.sigma(t_to).square())


def test_many_small_renoisings_are_one() -> None:
    times = torch.linspace(0.2, 0.9, 71, dtype=torch.float64)
    signal, variance = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for t_from, t_to in itertools.pairwise(times):
        step_signal, step_noise = coefficients(t_from, t_to)
        signal, variance = signal * step_signal, variance * step_signal.square() + step_noise.square()
    expected_signal, expected_noise = coefficients(times[0], times[-1])
    torch.testing.assert_close(signal, expected_signal)
    torch.testing.assert_close(variance, expected_noise.square())


@pytest.mark.parametrize("num_steps", [1, 10])
def test_renoised_samples_have_the_variance_of_their_time(num_steps: int) -> None:
    """A sample of clean pictures of variance 0.25; a difference of sigmas for noise would give 0.28, not 0.76."""
    times = torch.linspace(0.3, 0.7, num_steps + 1, dtype=torch.float64)
    x = add_noise(SCHEDULE, 0.5 * torch.randn(200_000, 1), torch.randn(200_000, 1), times[0])
    for t_from, t_to in itertools.pairwise(times):
        x = renoise(SCHEDULE, x, t_from, t_to, torch.randn(200_000, 1))
    expected = 0.25 * SCHEDULE.alpha(times[-1]) ** 2 + SCHEDULE.sigma(times[-1]) ** 2
    assert float(x.var()) == pytest.approx(float(expected), rel=0.01)


@pytest.mark.parametrize("t", TIMES, ids=["one time", "one per sample"])
def test_renoising_from_clean_is_adding_noise(t: torch.Tensor) -> None:
    x0, noise = pair()
    assert torch.equal(renoise(SCHEDULE, x0, torch.zeros_like(t), t, noise), add_noise(SCHEDULE, x0, noise, t))


def test_renoising_to_the_same_time_changes_nothing() -> None:
    x, noise = pair()
    assert torch.equal(renoise(SCHEDULE, x, TIMES[0], TIMES[0], noise), x)


def test_renoising_backwards_is_refused() -> None:
    x, noise = pair()
    with pytest.raises(InputError, match=r"not from t=0\.6 to 0\.5"):
        renoise(SCHEDULE, x, *torch.tensor([0.6, 0.5], dtype=torch.float64), noise)
