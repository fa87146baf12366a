"""Known regions: kept to the bit at the end, on their own noised path before it, and all else left alone."""

import pytest
import torch
from torch import Tensor

from unclip.diffusion import SAMPLERS, Prediction, add_noise, cosine_schedule, keep_known, start_known, time_grid
from unclip.diffusion.prediction import eps_from_x0
from unclip.errors import InputError

SCHEDULE = cosine_schedule()
DETERMINISTIC = [name for name, spec in SAMPLERS.items() if not spec.stochastic]


class Shrinker:
    """A denoiser that predicts tanh of what it sees."""

    schedule = SCHEDULE

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        x0 = torch.tanh(x_t)
        return Prediction(x0, eps_from_x0(SCHEDULE, x_t, x0, t), torch.full_like(x_t, 0.3))


def picture() -> Tensor:
    return torch.rand(2, 3, 4, 6) * 2 - 1


def half() -> Tensor:
    """Columns 0 and 1 are kept, 2 is mixed, 3 to 5 are repainted."""
    return torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0, 1.0]).expand(1, 1, 4, 6)


def test_a_mask_of_ones_changes_nothing() -> None:
    denoiser, noise = Shrinker(), torch.randn(2, 3, 4, 6)
    assert keep_known(denoiser, picture(), torch.ones(1, 1, 4, 6)) is denoiser
    assert start_known(SCHEDULE, picture(), torch.ones(2, 1, 4, 6), noise, SCHEDULE.time(999)) is noise


def test_x0_is_known_mixed_or_predicted_and_eps_agrees() -> None:
    known, x_t, t = picture(), torch.randn(2, 3, 4, 6), SCHEDULE.time(400)
    denoiser = keep_known(Shrinker(), known, half())
    ours, plain = denoiser(x_t, t), Shrinker()(x_t, t)
    assert denoiser.schedule is SCHEDULE
    assert torch.equal(ours.x0[..., :2], known[..., :2])
    torch.testing.assert_close(ours.x0[..., 2], 0.75 * known[..., 2] + 0.25 * plain.x0[..., 2])
    assert torch.equal(ours.x0[..., 3:], plain.x0[..., 3:])
    assert torch.equal(ours.eps[..., 3:], plain.eps[..., 3:])
    torch.testing.assert_close(add_noise(SCHEDULE, ours.x0, ours.eps, t), x_t)
    assert torch.equal(ours.variance_fraction, plain.variance_fraction)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_ends_at_the_known_pixels_bit_for_bit(name: str) -> None:
    known, times = picture(), time_grid(SCHEDULE, 5)
    x_T = start_known(SCHEDULE, known, half(), torch.randn(2, 3, 4, 6), times[0])
    denoiser = keep_known(Shrinker(), known, half())
    result = list(SAMPLERS[name].sample(denoiser, x_T, times, lambda: torch.randn(2, 3, 4, 6)))[-1].x_t
    assert torch.equal(result[..., :2], known[..., :2])
    assert not torch.isclose(result[..., 2:], known[..., 2:], atol=1e-3).any(dim=-1).all()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_known_pixels_stay_on_their_own_noised_path(name: str) -> None:
    known, noise, times = picture().double(), torch.randn(2, 3, 4, 6, dtype=torch.float64), time_grid(SCHEDULE, 8)
    x_T = start_known(SCHEDULE, known, half(), noise, times[0])
    for step in SAMPLERS[name].sample(keep_known(Shrinker(), known, half()), x_T, times):
        path = add_noise(SCHEDULE, known, noise, torch.tensor(step.t).double())
        torch.testing.assert_close(step.x_t[..., :2], path[..., :2], rtol=0, atol=1e-10)


def test_start_is_the_forward_marginal_where_known_and_the_noise_elsewhere() -> None:
    known, noise, t = picture(), torch.randn(2, 3, 4, 6), SCHEDULE.time(600)
    start = start_known(SCHEDULE, known, half(), noise, t)
    assert torch.equal(start[..., :2], add_noise(SCHEDULE, known, noise, t)[..., :2])
    assert torch.equal(start[..., 3:], noise[..., 3:])
    mixed = 0.25 * noise + 0.75 * add_noise(SCHEDULE, known, noise, t)
    torch.testing.assert_close(start[..., 2], mixed[..., 2])


def test_one_mask_for_each_picture() -> None:
    known, x_t, t = picture(), torch.randn(2, 3, 4, 6), SCHEDULE.time(400)
    mask = torch.cat([torch.zeros(1, 1, 4, 6), torch.ones(1, 1, 4, 6)])
    x0 = keep_known(Shrinker(), known, mask)(x_t, t).x0
    assert torch.equal(x0, torch.stack([known[0], torch.tanh(x_t[1])]))


@pytest.mark.parametrize("shape", [(1, 1, 6, 4), (1, 1, 1, 6), (3, 1, 4, 6)])
def test_masks_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="does not fit pictures of shape"):
        keep_known(Shrinker(), picture(), torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_mask_values_outside_are_refused(value: float) -> None:
    mask = torch.zeros(1, 1, 4, 6)
    mask[..., 0, 0] = value
    with pytest.raises(InputError, match="mask values must lie in"):
        start_known(SCHEDULE, picture(), mask, torch.randn(2, 3, 4, 6), SCHEDULE.time(10))
