"""Clipping and dynamic thresholding bound x0, and eps follows it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from unclip.diffusion import Denoiser, Prediction, clip_x0, cosine_schedule, dynamic_threshold
from unclip.diffusion.prediction import eps_from_x0
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
T = SCHEDULE.time(400)
FRACTION = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Fixed:
    """Always predicts the same x0."""

    schedule = SCHEDULE

    def __init__(self, x0: Tensor) -> None:
        self.x0 = x0

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        return Prediction(self.x0, eps_from_x0(SCHEDULE, x_t, self.x0, t), FRACTION)


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8) * torch.tensor([0.2, 3.0])[:, None, None, None], torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize("wrap", [clip_x0, dynamic_threshold])
def test_x0_is_bounded_and_eps_agrees(wrap) -> None:
    x0, x_t = inputs()
    prediction = wrap(Fixed(x0))(x_t, T)
    assert float(prediction.x0.abs().max()) == 1
    torch.testing.assert_close(SCHEDULE.alpha(T) * prediction.x0 + SCHEDULE.sigma(T) * prediction.eps, x_t)
    assert prediction.variance_fraction is FRACTION


@pytest.mark.parametrize("wrap", [clip_x0, dynamic_threshold])
def test_x0_inside_the_bounds_is_left_alone(wrap) -> None:
    x0, x_t = inputs()
    x0 = x0.clamp(-0.9, 0.9)
    torch.testing.assert_close(wrap(Fixed(x0))(x_t, T), Fixed(x0)(x_t, T))


def test_clip_is_clamp() -> None:
    x0, x_t = inputs()
    assert torch.equal(clip_x0(Fixed(x0), 2.5)(x_t, T).x0, x0.clamp(-2.5, 2.5))


def test_threshold_is_the_quantile_of_each_sample() -> None:
    x0, x_t = inputs()
    ours = dynamic_threshold(Fixed(x0), 0.9)(x_t, T).x0
    for k in range(2):
        s = max(1.0, float(np.quantile(x0[k].abs().numpy(), 0.9)))
        torch.testing.assert_close(ours[k], x0[k].clamp(-s, s) / s)


def test_wrappers_keep_the_schedule_and_nest() -> None:
    x0, x_t = inputs()
    denoiser: Denoiser = clip_x0(dynamic_threshold(Fixed(x0)), 0.5)
    assert denoiser.schedule is SCHEDULE
    assert float(denoiser(x_t, T).x0.abs().max()) == 0.5


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_bad_bounds_are_refused(bound: float) -> None:
    with pytest.raises(InputError, match="the x0 bound"):
        clip_x0(Fixed(torch.zeros(1, 1)), bound)


@pytest.mark.parametrize("percentile", [0.0, 1.1, 99.5, float("nan")])
def test_bad_percentiles_are_refused(percentile: float) -> None:
    with pytest.raises(InputError, match="percentile"):
        dynamic_threshold(Fixed(torch.zeros(1, 1)), percentile)
