"""The forward process and the conversions between x0, eps and v are inverses of each other."""

from typing import get_args

import pytest
import torch

from unclip.diffusion import PredictionType, add_noise, cosine_schedule, training_target
from unclip.diffusion.prediction import to_prediction
from unclip.diffusion.process import flow_step

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
