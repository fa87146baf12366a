"""RePaint's resampling: which times it visits, how it noises back, and that it finds the conditional distribution."""

from functools import partial

import pytest
import torch
from torch import Tensor

from unclip.diffusion import (
    SAMPLERS,
    Prediction,
    cosine_schedule,
    ddim,
    ddpm,
    keep_known,
    renoise,
    repaint,
    start_known,
    time_grid,
)
from unclip.diffusion.prediction import eps_from_x0
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
SHAPE = (2, 3, 4, 4)
TIMES = [0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


class Shrinker:
    """A denoiser that predicts tanh of what it sees."""

    schedule = SCHEDULE

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        x0 = torch.tanh(x_t)
        return Prediction(x0, eps_from_x0(SCHEDULE, x_t, x0, t))


class Draws:
    """Noise of a fixed generator that keeps what it drew."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)
        self.drawn: list[Tensor] = []

    def __call__(self) -> Tensor:
        self.drawn.append(torch.randn(SHAPE, generator=self.generator))
        return self.drawn[-1]


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def grid(*times: float) -> Tensor:
    return torch.tensor(times, dtype=torch.float64)


@pytest.mark.parametrize("name", SAMPLERS)
def test_once_is_the_plain_sampler(name: str) -> None:
    times = time_grid(SCHEDULE, 7)
    ours = list(repaint(SAMPLERS[name].sample, Shrinker(), start(), times, Draws(), num_resamples=1, jump=3))
    plain = list(SAMPLERS[name].sample(Shrinker(), start(), times, Draws()))
    for a, b in zip(ours, plain, strict=True):
        assert (a.index, a.num_steps, a.t) == (b.index, b.num_steps, b.t)
        assert torch.equal(a.x_t, b.x_t)
        assert torch.equal(a.x0, b.x0)


@pytest.mark.parametrize(
    ("times", "jump", "num_resamples", "visited"),
    [
        (TIMES, 3, 2, [0.6, 0.5, 0.4] * 2 + [0.3, 0.2, 0.1] * 2 + [0.0]),
        (TIMES[3:], 1, 3, [0.3] * 3 + [0.2] * 3 + [0.1] * 3 + [0.0]),
        (TIMES, 4, 2, [0.6, 0.5] * 2 + [0.4, 0.3, 0.2, 0.1] * 2 + [0.0]),
        (TIMES[4:], 99, 2, [0.2, 0.1] * 2 + [0.0]),
        (TIMES[6:], 1, 5, [0.0]),
        (TIMES[3:7], 2, 2, [0.3] * 2 + [0.2, 0.1] * 2),
    ],
    ids=["jumps", "single steps", "shorter first", "longer than the grid", "only the last step", "no clean end"],
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_segments_are_counted_from_the_clean_end(
    name: str, times: list[float], jump: int, num_resamples: int, visited: list[float]
) -> None:
    steps = list(repaint(SAMPLERS[name].sample, Shrinker(), start(), grid(*times), Draws(), num_resamples, jump))
    assert [step.t for step in steps] == visited
    assert [step.index for step in steps] == list(range(len(visited)))
    assert {step.num_steps for step in steps} == {len(visited)}
    assert bool(steps[-1].x_t.isfinite().all())


def test_a_segment_is_run_renoised_and_run_again() -> None:
    """By hand: 0.6 to 0.3, noised back, to 0.3 again, then the step to 0."""
    noise = Draws()
    steps = list(repaint(ddim, Shrinker(), start(), grid(0.6, 0.3, 0.0), noise, num_resamples=2))
    (first,) = ddim(Shrinker(), start(), grid(0.6, 0.3))
    back = renoise(SCHEDULE, first.x_t, *grid(0.3, 0.6), noise.drawn[0])
    (second,) = ddim(Shrinker(), back, grid(0.6, 0.3))
    (last,) = ddim(Shrinker(), second.x_t, grid(0.3, 0.0))
    assert len(noise.drawn) == 1
    for a, b in zip(steps, [first, second, last], strict=True):
        assert torch.equal(a.x_t, b.x_t)


@pytest.mark.parametrize("name", SAMPLERS)
def test_known_pixels_come_back_bit_for_bit(name: str) -> None:
    times, known, mask = time_grid(SCHEDULE, 7), torch.rand(SHAPE), torch.ones(1, 1, 4, 4)
    mask[..., :2] = 0
    x_T = start_known(SCHEDULE, known, mask, start(), times[0])
    denoiser = keep_known(Shrinker(), known, mask)
    result = list(repaint(SAMPLERS[name].sample, denoiser, x_T, times, Draws(), 3, 2))[-1].x_t
    assert torch.equal(result[..., :2], known[..., :2])


class Correlated:
    """E[x0 | x_t] of pairs of pixels, N(0, 1) each, with a correlation of 0.9."""

    schedule = SCHEDULE
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        gain = alpha * self.covariance @ torch.linalg.inv(alpha**2 * self.covariance + sigma**2 * torch.eye(2))
        x0 = x_t @ gain
        return Prediction(x0, eps_from_x0(SCHEDULE, x_t, x0, t))


def moments(num_resamples: int) -> tuple[float, float]:
    """Mean and variance of the second pixel where the first is known to be 1."""
    count, times = 4000, time_grid(SCHEDULE, 20)
    known, mask = torch.ones(count, 1, 1, 2, dtype=torch.float64), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)

    def noise() -> Tensor:
        return torch.randn(count, 1, 1, 2, dtype=torch.float64)

    x_T = start_known(SCHEDULE, known, mask, noise(), times[0])
    sampler = partial(ddpm, variance="large")  # The right one for data of unit variance, DDPM section 3.2.
    last = list(repaint(sampler, keep_known(Correlated(), known, mask), x_T, times, noise, num_resamples))[-1].x_t
    return float(last[..., 1].mean()), float(last[..., 1].var())


def test_resampling_leads_to_the_conditional_distribution() -> None:
    """p(second | first = 1) is N(0.9, 0.19); without resampling the parts do not fit each other."""
    (mean_once, _), (mean, variance) = moments(1), moments(10)
    assert mean_once < 0.7
    assert mean == pytest.approx(0.9, abs=0.05)
    assert variance == pytest.approx(0.19, abs=0.04)


@pytest.mark.parametrize(("num_resamples", "jump"), [(0, 1), (2, 0), (-1, -1)])
def test_counts_below_one_are_refused(num_resamples: int, jump: int) -> None:
    with pytest.raises(InputError, match=f"num_resamples={num_resamples} and jump={jump}"):
        list(repaint(ddim, Shrinker(), start(), grid(*TIMES), Draws(), num_resamples, jump))


def test_missing_noise_is_named() -> None:
    with pytest.raises(InputError, match="pass noise="):
        list(repaint(ddim, Shrinker(), start(), grid(*TIMES), num_resamples=2))
