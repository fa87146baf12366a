"""Tiles: they cover a picture exactly once in sum, change nothing that is local, and fade where they disagree."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.diffusion import Denoiser, Prediction, Region, Tiling, linear_schedule, tiled
from unclip.diffusion.tiling import spans
from unclip.errors import InputError

SCHEDULE = linear_schedule()
T = torch.tensor(0.5, dtype=torch.float64)
WHOLE: Region = (slice(None), slice(None))


class Answer:
    """A denoiser that predicts a given function of x_t."""

    schedule = SCHEDULE

    def __init__(self, x0: Callable[[Tensor], Tensor]) -> None:
        self.x0 = x0

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        return Prediction(self.x0(x_t), -self.x0(x_t), x_t.square())


@pytest.mark.parametrize("length", [8, 64, 72, 200, 1024])
@pytest.mark.parametrize("halo", [0, 8, 32])
def test_spans_cover_an_axis_with_weights_that_add_up_to_one(length: int, halo: int) -> None:
    tiling = Tiling(tile_size=64, halo=halo, multiple=8)
    total = torch.zeros(length)
    for seen, weight in spans(length, tiling):
        assert seen.start % 8 == seen.stop % 8 == 0
        assert len(weight) == seen.stop - seen.start <= 64 + 2 * halo
        total[seen] += weight
    torch.testing.assert_close(total, torch.ones(length))
    assert len(list(spans(length, tiling))) == -(-length // 64)


def test_the_outer_half_of_a_halo_is_context_only() -> None:
    first, second = spans(128, Tiling(tile_size=64, halo=16))
    assert (first.seen, second.seen) == (slice(0, 80), slice(48, 128))
    ramp = (torch.arange(16) + 0.5) / 16  # pixels 56 to 71
    torch.testing.assert_close(first.weight, torch.cat([torch.ones(56), 1 - ramp, torch.zeros(8)]))
    torch.testing.assert_close(second.weight, torch.cat([torch.zeros(8), ramp, torch.ones(56)]))


def local(x: Tensor) -> Tensor:
    """Every pixel depends on those up to 4 away."""
    return F.conv2d(x, torch.linspace(-1, 1, 243).view(3, 1, 9, 9), padding=4, groups=3)


def test_a_local_denoiser_is_computed_as_if_in_one_pass() -> None:
    x_t = torch.randn(2, 3, 56, 104)
    expected = Answer(local)(x_t, T)
    actual = tiled(lambda region: Answer(local), SCHEDULE, Tiling(tile_size=32, halo=8, multiple=4))(x_t, T)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_every_tile_is_told_its_region() -> None:
    secret = torch.randn(1, 3, 40, 40)
    at: Callable[[Region], Denoiser] = lambda region: Answer(lambda x: x + secret[(..., *region)])  # noqa: E731
    prediction = tiled(at, SCHEDULE, Tiling(tile_size=16, halo=4))(secret, T)
    torch.testing.assert_close(prediction.x0, 2 * secret)


def test_tiles_that_disagree_fade_over_the_halo() -> None:
    """Two tiles whose answers differ by 1 on a gradient of 0.01: each pixel is 0.01 + 1/16 above the last, no more."""
    gradient = (0.01 * torch.arange(128.0)).expand(1, 3, 8, 128)
    at: Callable[[Region], Denoiser] = lambda region: Answer(lambda x: x + float(region[1].start > 0))  # noqa: E731
    x0 = tiled(at, SCHEDULE, Tiling(tile_size=64, halo=16))(gradient, T).x0
    steps = x0.diff(dim=-1)
    assert steps.max().item() == pytest.approx(0.01 + 1 / 16, abs=1e-5)
    assert steps.min().item() == pytest.approx(0.01, abs=1e-5)
    torch.testing.assert_close(steps.sum(dim=-1), torch.full((1, 3, 8), 1.27 + 1.0))


def test_a_picture_of_one_tile_is_one_pass() -> None:
    seen = []

    def at(region: Region) -> Denoiser:
        seen.append(region)
        return Answer(local)

    x_t = torch.randn(1, 3, 30, 18)  # the network itself says what sizes it takes
    assert torch.equal(tiled(at, SCHEDULE, Tiling(tile_size=32, halo=8, multiple=8))(x_t, T).x0, local(x_t))
    assert seen == [(slice(0, 30), slice(0, 18))]


def test_numbers_that_do_not_fit_are_refused() -> None:
    for tile_size, halo in ((30, 8), (32, 6), (32, 24), (32, -8)):
        with pytest.raises(InputError, match=rf"^tile_size={tile_size} and halo={halo} must be multiples of 8, and"):
            Tiling(tile_size=tile_size, halo=halo, multiple=8)
    with pytest.raises(InputError, match="a side of 100 pixels cannot be tiled: it must be a multiple of 8"):
        list(spans(100, Tiling(tile_size=64, halo=8, multiple=8)))
