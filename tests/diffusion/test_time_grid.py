"""Time grids visit the table points that released models were sampled at, or equal steps in log-SNR."""

import pytest
import torch

from unclip.diffusion import cosine_schedule, half_log_snr, linear_schedule, time_grid, times_from
from unclip.diffusion.time_grid import Spacing
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
KARLO_25 = [999, 957, 916, 874, 832, 791, 749, 708, 666, 624, 583, 541, 500, 458, 416, 375, 333, 291, 250, 208, 166]
KARLO_25 += [125, 83, 42, 0]


@pytest.mark.parametrize("indices", [[999], [999, 0], [999, 832, 666, 500, 333, 166, 0], KARLO_25], ids=len)
def test_uniform_steps_are_those_of_released_models(indices: list[int]) -> None:
    times = time_grid(SCHEDULE, len(indices))
    assert SCHEDULE.timestep(times).tolist() == [*indices, -1]
    assert times.dtype == torch.float64
    assert times[-1].item() == 0


def test_every_table_point_once() -> None:
    assert torch.equal(SCHEDULE.timestep(time_grid(SCHEDULE, 1000)), torch.arange(999, -2, -1).float())


@pytest.mark.parametrize("num_steps", [1, 2, 7, 50, 2000])
@pytest.mark.parametrize("schedule", [cosine_schedule(), linear_schedule(20)], ids=repr)
def test_logsnr_steps_are_equal(schedule, num_steps: int) -> None:
    times = time_grid(schedule, num_steps, "logsnr")
    assert len(times) == num_steps + 1
    assert times[0].item() == 1
    steps = half_log_snr(schedule, times[:-1]).diff()
    if num_steps > 1:
        assert schedule.timestep(times[-2]).item() == 0
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-3, atol=0)


@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
@pytest.mark.parametrize("num_steps", [0, -3])
def test_no_steps_are_refused(num_steps: int, spacing) -> None:
    with pytest.raises(InputError, match=f"num_steps={num_steps} is below 1"):
        time_grid(SCHEDULE, num_steps, spacing)


def test_more_steps_than_the_table_are_refused() -> None:
    with pytest.raises(InputError, match="num_steps=21 exceeds the 20 steps"):
        time_grid(linear_schedule(20), 21)


@pytest.mark.parametrize(
    ("strength", "timesteps"),
    [
        (1.0, [999, 749, 500, 250, 0, -1]),
        (0.9, [999, 749, 500, 250, 0, -1]),
        (0.8, [749, 500, 250, 0, -1]),
        (0.5, [500, 250, 0, -1]),
        (0.3, [250, 0, -1]),
        (1e-9, [0, -1]),
    ],
)
def test_strength_cuts_the_grid_at_its_nearest_time(strength: float, timesteps: list[int]) -> None:
    assert SCHEDULE.timestep(times_from(time_grid(SCHEDULE, 5), strength)).tolist() == timesteps


def test_a_grid_of_one_step_keeps_it() -> None:
    assert times_from(time_grid(SCHEDULE, 1), 0.01).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
def test_strength_outside_is_refused(strength: float) -> None:
    with pytest.raises(InputError, match=f"strength={strength} must lie in"):
        times_from(time_grid(SCHEDULE, 5), strength)


@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
def test_entries_of_little_noise_are_left_out_and_the_number_of_steps_stays(spacing: Spacing) -> None:
    times = time_grid(SCHEDULE, 25, spacing, sigma_min=0.1)
    table = SCHEDULE.time(torch.arange(1000))
    assert len(times) == 26
    assert times[[0, -1]].tolist() == [1.0, 0.0]
    assert times[-2] == table[SCHEDULE.sigma(table) >= 0.1].min()
    assert time_grid(SCHEDULE, 1, spacing, sigma_min=1.0).tolist() == [1.0, 0.0]


def test_steps_are_even_between_the_entries_that_are_left() -> None:
    first = int((SCHEDULE.sigma(SCHEDULE.time(torch.arange(1000))) < 0.5).sum())
    expected = [999, round(first + 2 * (999 - first) / 3), round(first + (999 - first) / 3), first, -1]
    assert SCHEDULE.timestep(time_grid(SCHEDULE, 4, sigma_min=0.5)).tolist() == expected


@pytest.mark.parametrize("sigma_min", [-0.1, 1.5, float("nan")])
def test_noise_outside_is_refused(sigma_min: float) -> None:
    with pytest.raises(InputError, match=f"sigma_min={sigma_min} must lie in"):
        time_grid(SCHEDULE, 5, sigma_min=sigma_min)
