"""Schedules: the table is hit bit for bit, and what lies between its points is monotone and linear in log-SNR."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unclip.diffusion import (
    CosineSchedule,
    DiscreteSchedule,
    cosine_schedule,
    half_log_snr,
    linear_schedule,
    make_schedule,
)
from unclip.errors import ConfigError

INDICES = torch.arange(1000)


@pytest.mark.parametrize("schedule", [cosine_schedule(), linear_schedule()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_table_points_are_hit_bit_for_bit(schedule: DiscreteSchedule, dtype: torch.dtype) -> None:
    t = schedule.time(INDICES).to(dtype)
    assert torch.equal(schedule.alpha(t), schedule.alphas_cumprod.sqrt())
    assert torch.equal(schedule.sigma(t), (1 - schedule.alphas_cumprod).sqrt())
    assert torch.equal(schedule.timestep(t), INDICES.float())


def test_cosine_table_is_the_product_written_out() -> None:
    def f(i: int) -> float:
        return math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for i, entry in enumerate(cosine_schedule().alphas_cumprod.tolist()):
        product *= 1 - min(1 - f(i + 1) / f(i), 0.999)
        assert entry == pytest.approx(product, rel=1e-13)


def test_linear_table_is_the_product_written_out() -> None:
    product = 1.0
    for i, entry in enumerate(linear_schedule().alphas_cumprod.tolist()):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        assert entry == pytest.approx(product, rel=1e-13)


def test_last_entry_of_the_released_models() -> None:
    assert cosine_schedule().alphas_cumprod[-1].item() == pytest.approx(2.4288e-9, rel=1e-4)


@pytest.mark.parametrize("name", ["cosine", "linear", "kandinsky"])
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 10, 20, 100, 4000])
def test_any_number_of_timesteps_gives_a_valid_table(name: str, num_timesteps: int) -> None:
    schedule = make_schedule(name, num_timesteps)
    assert schedule.num_timesteps == len(schedule.alphas_cumprod) == num_timesteps
    t = schedule.time(torch.arange(num_timesteps)).float()
    assert torch.equal(schedule.timestep(t), torch.arange(num_timesteps).float())
    assert torch.equal(schedule.alpha(t), schedule.alphas_cumprod.sqrt())


@pytest.mark.parametrize("num_timesteps", [10, 50, 1000])
def test_linear_ends_at_the_same_noise_for_every_length(num_timesteps: int) -> None:
    assert linear_schedule(num_timesteps).alphas_cumprod[-1].item() == pytest.approx(4.036e-5, rel=0.01)


@given(st.floats(0, 1))
def test_signal_and_noise_keep_unit_variance(t: float) -> None:
    for schedule in (cosine_schedule(), linear_schedule(), CosineSchedule()):
        assert float(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2) == pytest.approx(1, abs=1e-12)


def test_noise_grows_everywhere() -> None:
    t = torch.linspace(0, 1, 7919, dtype=torch.float64)
    for schedule in (cosine_schedule(), linear_schedule(), CosineSchedule()):
        assert bool((schedule.sigma(t).diff() > 0).all())


def test_log_snr_is_linear_between_table_points() -> None:
    schedule = cosine_schedule()
    ends = half_log_snr(schedule, schedule.time(torch.tensor([499, 500])))
    inner = half_log_snr(schedule, torch.tensor([0.50025, 0.5005, 0.50075], dtype=torch.float64))
    weights = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    torch.testing.assert_close(inner, torch.lerp(ends[0], ends[1], weights))


def test_time_zero_is_clean() -> None:
    for schedule in (cosine_schedule(), linear_schedule(), CosineSchedule()):
        assert schedule.alpha(0.0).item() == 1
        assert schedule.sigma(0.0).item() == 0
        assert half_log_snr(schedule, 0.0).item() == math.inf


def test_a_python_number_is_taken_in_float64() -> None:
    assert torch.equal(
        cosine_schedule().alpha(0.1234), cosine_schedule().alpha(torch.tensor(0.1234, dtype=torch.float64))
    )


def test_closed_form_is_the_limit_of_the_table() -> None:
    schedule = cosine_schedule()
    t = schedule.time(INDICES[:990])  # The last entries are held back by the limit on beta.
    torch.testing.assert_close(CosineSchedule().alpha(t), schedule.alpha(t), rtol=1e-9, atol=0)
    torch.testing.assert_close(CosineSchedule().timestep(t), schedule.timestep(t))


def test_float32_table_differs_as_float32_does() -> None:
    ours, exact = cosine_schedule(dtype=torch.float32).alphas_cumprod, cosine_schedule().alphas_cumprod
    assert torch.equal(ours, ours.float().double())
    assert 1e-8 < float((ours / exact - 1).abs().max()) < 2e-4


def test_time_and_timestep_are_inverses() -> None:
    schedule = make_schedule("linear", 37)
    assert schedule.timestep(schedule.time(12)).item() == 12
    assert schedule.time(-1).item() == 0
    assert schedule.timestep(torch.tensor(0.5)).item() == pytest.approx(17.5)


@pytest.mark.parametrize("table", [[], [0.5, 0.5], [0.4, 0.5], [1.0, 0.5], [0.5, 0.0], [0.5, float("nan")]], ids=str)
def test_bad_tables_are_refused(table: list[float]) -> None:
    with pytest.raises(ConfigError, match="schedule 'mine': the table"):
        DiscreteSchedule(torch.tensor(table), "mine")


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        make_schedule("cosin")


@pytest.mark.parametrize("name", ["cosine", "linear", "kandinsky"])
def test_no_timesteps_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="num_timesteps=0 is below 1"):
        make_schedule(name, 0)


def test_only_a_rounded_table_steps_by_its_betas() -> None:
    """1 - beta keeps 3 digits of the first beta in float32; between points further apart both take the ratio."""
    rounded, exact = cosine_schedule(dtype=torch.float32), cosine_schedule()
    first, clean = exact.time(0), exact.time(-1)
    beta = 1 - (math.cos((0.001 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    assert float(rounded.step_beta(first, clean)) == pytest.approx(beta, rel=1e-7)
    assert float(exact.step_beta(first, clean)) == pytest.approx(beta, rel=1e-10)
    by_ratio = 1 - float(rounded.alpha(first) / rounded.alpha(clean)) ** 2
    assert 1e-5 < abs(by_ratio / beta - 1) < 1e-2
    far, near = exact.time(600), exact.time(500)
    for schedule in (rounded, exact):
        ratio = 1 - (schedule.alpha(far) / schedule.alpha(near)).square()
        torch.testing.assert_close(schedule.step_beta(far, near), ratio, rtol=1e-12, atol=0.0)
