"""What every sampler promises beside its mathematics: lazy steps, one draw a step, none in the last, clear errors."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from unclip.diffusion import (
    SAMPLERS,
    Prediction,
    SamplerSpec,
    bind,
    cosine_schedule,
    ddim,
    ddpm,
    get_sampler,
    time_grid,
)
from unclip.diffusion.prediction import eps_from_x0
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
SPECS = [pytest.param(spec, id=name) for name, spec in SAMPLERS.items()]


class Shrinker:
    """A denoiser without randomness that counts its evaluations."""

    schedule = SCHEDULE

    def __init__(self, variance_fraction: float | None = None) -> None:
        self.num_calls = 0
        self.variance_fraction = variance_fraction

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        self.num_calls += 1
        x0 = torch.tanh(x_t)
        fraction = None if self.variance_fraction is None else torch.full_like(x_t, self.variance_fraction)
        return Prediction(x0, eps_from_x0(SCHEDULE, x_t, x0, t), fraction)


class Draws:
    """Noise of a fixed generator that counts its draws."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)
        self.count = 0

    def __call__(self) -> Tensor:
        self.count += 1
        return torch.randn(2, 3, 4, 4, generator=self.generator)


def start() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_steps_tell_where_they_are(spec: SamplerSpec, num_steps: int) -> None:
    times = time_grid(SCHEDULE, num_steps)
    steps = list(spec.sample(Shrinker(), start(), times, Draws()))
    assert [step.index for step in steps] == list(range(num_steps))
    assert {step.num_steps for step in steps} == {num_steps}
    assert [step.t for step in steps] == times[1:].tolist()
    for step in steps:
        assert step.x_t.shape == step.x0.shape == (2, 3, 4, 4)
        assert step.x_t.dtype == torch.float32
        assert bool(step.x_t.isfinite().all())


@pytest.mark.parametrize("spec", SPECS)
def test_the_last_step_returns_its_x0(spec: SamplerSpec) -> None:
    last = list(spec.sample(Shrinker(), start(), time_grid(SCHEDULE, 6), Draws()))[-1]
    torch.testing.assert_close(last.x_t, last.x0)


@pytest.mark.parametrize("spec", SPECS)
def test_noise_is_drawn_once_a_step_but_not_in_the_last(spec: SamplerSpec) -> None:
    noise = Draws()
    list(spec.sample(Shrinker(), start(), time_grid(SCHEDULE, 7), noise))
    assert noise.count == (6 if spec.stochastic else 0)


def test_ddim_draws_only_with_eta() -> None:
    noise = Draws()
    list(ddim(Shrinker(), start(), time_grid(SCHEDULE, 7), noise, eta=0.5))
    assert noise.count == 6


@pytest.mark.parametrize("spec", SPECS)
def test_steps_are_made_when_they_are_asked_for(spec: SamplerSpec) -> None:
    denoiser = Shrinker()
    steps = spec.sample(denoiser, start(), time_grid(SCHEDULE, 50), Draws())
    assert denoiser.num_calls == 0
    next(steps)
    assert denoiser.num_calls == (2 if spec.name == "heun" else 1)


@pytest.mark.parametrize("spec", SPECS)
def test_evaluations_are_one_a_step_and_two_for_heun(spec: SamplerSpec) -> None:
    denoiser = Shrinker()
    list(spec.sample(denoiser, start(), time_grid(SCHEDULE, 8), Draws()))
    assert denoiser.num_calls == (15 if spec.name == "heun" else 8)


@pytest.mark.parametrize("spec", SPECS)
def test_no_gradient_is_kept_and_the_caller_keeps_its_own(spec: SamplerSpec) -> None:
    network = nn.Conv2d(3, 3, 1)
    denoiser = bind(lambda x_t, timestep: network(x_t), SCHEDULE, "v", {})
    for step in spec.sample(denoiser, start(), time_grid(SCHEDULE, 3), Draws()):
        assert not step.x_t.requires_grad
        assert not step.x0.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("spec", SPECS)
def test_x_T_is_left_alone(spec: SamplerSpec) -> None:
    x_T = start()
    list(spec.sample(Shrinker(), x_T, time_grid(SCHEDULE, 3), Draws()))
    assert torch.equal(x_T, start())


@pytest.mark.parametrize("spec", SPECS)
def test_a_sample_does_not_depend_on_its_batch(spec: SamplerSpec) -> None:
    times, both = time_grid(SCHEDULE, 5), Draws()
    together = list(spec.sample(Shrinker(), start(), times, both))[-1].x_t
    first = Draws()
    alone = list(spec.sample(Shrinker(), start()[:1], times, lambda: first()[:1]))[-1].x_t
    torch.testing.assert_close(alone, together[:1])


@pytest.mark.parametrize("spec", SPECS)
def test_a_start_in_the_middle_and_an_end_before_zero(spec: SamplerSpec) -> None:
    times = torch.linspace(0.6, 0.2, 5)
    steps = list(spec.sample(Shrinker(), start(), times, Draws()))
    assert len(steps) == 4
    assert steps[-1].t == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "heun"])
def test_two_halves_of_a_grid_are_the_whole(name: str) -> None:
    sample, times, whole, halves = SAMPLERS[name].sample, torch.linspace(0.8, 0.0, 9), Draws(), Draws()
    middle = list(sample(Shrinker(), start(), times[:5], halves))[-1].x_t
    joined = list(sample(Shrinker(), middle, times[4:], halves))[-1].x_t
    assert torch.equal(joined, list(sample(Shrinker(), start(), times, whole))[-1].x_t)


def test_a_sampler_of_several_steps_begins_afresh_in_every_run() -> None:
    """Its first step is that of first order, ddim's, wherever in the grid it begins."""
    for times in (torch.linspace(0.8, 0.4, 5), torch.linspace(0.4, 0.1, 3)):
        ours = next(iter(SAMPLERS["dpm++"].sample(Shrinker(), start(), times)))
        torch.testing.assert_close(ours.x_t, next(iter(ddim(Shrinker(), start(), times))).x_t)


def test_ddim_with_full_eta_is_ddpm() -> None:
    times = time_grid(SCHEDULE, 20)
    ours = list(ddim(Shrinker(), start(), times, Draws(), eta=1.0))
    theirs = list(ddpm(Shrinker(), start(), times, Draws(), variance="small"))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.x_t, b.x_t, rtol=1e-4, atol=1e-4)


def test_learned_variance_spans_small_to_large() -> None:
    times = time_grid(SCHEDULE, 6)
    for fraction, variance in [(0.0, "small"), (1.0, "large")]:
        learned = list(ddpm(Shrinker(fraction), start(), times, Draws(), variance="learned"))[-1].x_t
        fixed = list(ddpm(Shrinker(), start(), times, Draws(), variance=variance))[-1].x_t
        torch.testing.assert_close(learned, fixed)


def test_variance_is_learned_where_the_network_has_learned_one() -> None:
    times = time_grid(SCHEDULE, 6)
    for fraction, variance in [(0.3, "learned"), (None, "small")]:
        chosen = list(ddpm(Shrinker(fraction), start(), times, Draws()))[-1].x_t
        named = list(ddpm(Shrinker(fraction), start(), times, Draws(), variance=variance))[-1].x_t
        assert torch.equal(chosen, named)


def test_learned_variance_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="this network learned none"):
        list(ddpm(Shrinker(), start(), time_grid(SCHEDULE, 3), Draws(), variance="learned"))


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_eta_outside_zero_to_one_is_refused(eta: float) -> None:
    with pytest.raises(InputError, match=f"eta={eta}"):
        list(ddim(Shrinker(), start(), time_grid(SCHEDULE, 3), eta=eta))


@pytest.mark.parametrize("sample", [ddpm, partial(ddim, eta=1.0), SAMPLERS["dpm++sde"].sample])
def test_missing_noise_is_named(sample) -> None:
    with pytest.raises(InputError, match="pass noise="):
        list(sample(Shrinker(), start(), time_grid(SCHEDULE, 3)))


@pytest.mark.parametrize("times", [[0.5], [0.0, 0.5], [0.5, 0.5, 0.0], [1.5, 0.0], [0.5, -0.5], [float("nan"), 0.0]])
@pytest.mark.parametrize("spec", SPECS)
def test_times_that_do_not_fall_are_refused(spec: SamplerSpec, times: list[float]) -> None:
    with pytest.raises(InputError, match="fall inside"):
        list(spec.sample(Shrinker(), start(), torch.tensor(times), Draws()))


def test_samplers_are_known_by_name() -> None:
    for name, spec in SAMPLERS.items():
        assert get_sampler(name) is spec
        assert spec.name == name
    with pytest.raises(InputError, match=r"unknown sampler 'dpm\+'; did you mean 'dpm\+\+'"):
        get_sampler("dpm+")
