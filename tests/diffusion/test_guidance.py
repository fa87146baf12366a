"""Guidance: one batch equals two calls, scale 1 is off, and the interval decides when it acts."""

import pytest
import torch
from torch import Tensor, nn

from unclip.diffusion import BoundDenoiser, Prediction, PredictionType, bind, clip_x0, cosine_schedule, guide
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
T = SCHEDULE.time(600)


class Network(nn.Module):
    """A small non-linear network that counts the samples of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(10, 32), nn.Linear(32, 8)
        self.batches: list[int] = []

    @torch.no_grad()
    def forward(self, x_t: Tensor, timestep: Tensor, label: Tensor, extra: Tensor | None = None) -> Tensor:
        self.batches.append(len(x_t))
        told = torch.stack([timestep / 1000, label], dim=1)
        if extra is not None:
            told = told + extra
        return self.outer(torch.tanh(self.inner(torch.cat([x_t[:, :8], told], dim=1))))


class Opaque:
    """A denoiser that hides what it wraps, so that nothing can be merged."""

    schedule = SCHEDULE

    def __init__(self, denoiser: BoundDenoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        return self.denoiser(x_t, t)


def make(
    prediction_type: PredictionType = "eps", learned: bool = False
) -> tuple[Network, BoundDenoiser, BoundDenoiser]:
    network = Network()
    labels = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)
    first, second = (bind(network, SCHEDULE, prediction_type, {"label": label}, learned) for label in labels)
    return network, first, second


def sample(width: int = 8) -> Tensor:
    return torch.randn(3, width)


@pytest.mark.parametrize("prediction_type", ["x0", "eps", "v"])
@pytest.mark.parametrize("learned", [False, True])
def test_one_batch_equals_two_calls(prediction_type: PredictionType, learned: bool) -> None:
    network, conditional, unconditional = make(prediction_type, learned)
    x_t = sample(4 if learned else 8)
    if learned:
        network.inner = nn.Linear(6, 32)
    apart = guide(conditional, Opaque(unconditional), 3.0)(x_t, T)
    assert network.batches == [3, 3]
    together = guide(conditional, unconditional, 3.0)(x_t, T)
    assert network.batches == [3, 3, 6]
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("prediction_type", ["x0", "eps", "v"])
def test_guided_eps_is_the_formula_and_x0_agrees(prediction_type: PredictionType) -> None:
    _, conditional, unconditional = make(prediction_type)
    x_t = sample()
    eps_c, eps_u = conditional(x_t, T).eps, unconditional(x_t, T).eps
    x0, eps, _ = guide(conditional, unconditional, 4.0)(x_t, T)
    torch.testing.assert_close(eps, eps_u + 4.0 * (eps_c - eps_u))
    torch.testing.assert_close(x0, (x_t - SCHEDULE.sigma(T) * eps) / SCHEDULE.alpha(T), rtol=1e-4, atol=1e-4)


def test_x0_keeps_its_digits_at_the_noisy_end() -> None:
    """Through eps, x0 at alpha = 5e-5 would be off by 1e-3 and more."""
    _, conditional, unconditional = make("x0")
    x_t, t = sample(), SCHEDULE.time(999)
    x0_c, x0_u = conditional(x_t, t).x0, unconditional(x_t, t).x0
    torch.testing.assert_close(guide(conditional, unconditional, 3.0)(x_t, t).x0, x0_u + 3.0 * (x0_c - x0_u))


def test_variance_is_the_conditional_one() -> None:
    network, conditional, unconditional = make(learned=True)
    network.inner = nn.Linear(6, 32)
    x_t = sample(4)
    fraction = guide(conditional, unconditional, 5.0)(x_t, T).variance_fraction
    torch.testing.assert_close(fraction, conditional(x_t, T).variance_fraction)


@pytest.mark.parametrize("scale", [1.0, torch.ones(3)], ids=str)
def test_scale_one_returns_the_conditional_denoiser(scale: float | Tensor) -> None:
    _, conditional, unconditional = make()
    assert guide(conditional, unconditional, scale) is conditional


def test_scale_zero_is_unconditional() -> None:
    _, conditional, unconditional = make()
    x_t = sample()
    torch.testing.assert_close(guide(conditional, unconditional, 0.0)(x_t, T).eps, unconditional(x_t, T).eps)


def test_each_sample_may_have_its_scale() -> None:
    _, conditional, unconditional = make()
    x_t = sample()
    together = guide(conditional, unconditional, torch.tensor([0.0, 1.0, 7.5]))(x_t, T)
    for k, scale in enumerate([0.0, 1.0, 7.5]):
        torch.testing.assert_close(together.eps[k], guide(conditional, unconditional, scale)(x_t, T).eps[k])


def test_outside_the_interval_only_the_conditional_runs() -> None:
    network, conditional, unconditional = make()
    x_t, denoiser = sample(), guide(conditional, unconditional, 3.0, interval=(0.2, 0.5))
    outside = denoiser(x_t, T)
    assert network.batches == [3]
    torch.testing.assert_close(outside.eps, conditional(x_t, T).eps)
    network.batches.clear()
    for t in (0.19, 0.2, 0.4, 0.5, 0.51):
        denoiser(x_t, torch.tensor(t, dtype=torch.float64))
    assert network.batches == [3, 6, 6, 6, 3]


def test_interval_holds_for_each_sample() -> None:
    _, conditional, unconditional = make()
    x_t, t = sample(), torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    mixed = guide(conditional, unconditional, 3.0, interval=(0.2, 0.5))(x_t, t).eps
    always = guide(conditional, unconditional, 3.0)(x_t, t).eps
    never = conditional(x_t, t).eps
    torch.testing.assert_close(mixed, torch.stack([never[0], always[1], never[2]]))


def test_conditions_of_different_shape_run_apart() -> None:
    network, conditional, _ = make()
    extra = bind(network, SCHEDULE, "eps", {"label": torch.zeros(3), "extra": torch.zeros(3, 2)})
    long = bind(network, SCHEDULE, "eps", {"label": torch.zeros(3), "extra": torch.ones(1, 2)})
    nothing = bind(network, SCHEDULE, "eps", {"label": torch.zeros(3), "extra": None})
    for first, second, batches in [(conditional, extra, [3, 3]), (extra, long, [3, 3]), (extra, nothing, [3, 3])]:
        network.batches.clear()
        guide(first, second, 2.0)(sample(), T)
        assert network.batches == batches
    network.batches.clear()
    guide(nothing, nothing, 2.0)(sample(), T)
    assert network.batches == [6]


def test_different_networks_run_apart() -> None:
    (first_network, conditional, _), (second_network, _, unconditional) = make(), make()
    guide(conditional, unconditional, 2.0)(sample(), T)
    assert (first_network.batches, second_network.batches) == ([3], [3])


def test_clipping_goes_around_guidance() -> None:
    _, conditional, unconditional = make("x0")
    clipped = clip_x0(guide(conditional, unconditional, 50.0), 0.1)(sample(), T)
    assert float(clipped.x0.abs().max()) == pytest.approx(0.1)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), torch.tensor([2.0, -0.5, 1.0])], ids=str)
def test_bad_scales_are_refused(scale: float | Tensor) -> None:
    _, conditional, unconditional = make()
    with pytest.raises(InputError, match="guidance_scale="):
        guide(conditional, unconditional, scale)


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 0.5), (0.0, 1.5), (float("nan"), 1.0)])
def test_bad_intervals_are_refused(interval: tuple[float, float]) -> None:
    _, conditional, unconditional = make()
    with pytest.raises(InputError, match="guidance_interval="):
        guide(conditional, unconditional, 2.0, interval)
