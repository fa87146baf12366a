"""BSRGAN's damages against closed forms, and how often each strikes."""

import math

import pytest
import torch

from unclip.images import to_uint8
from unclip.runtime import seeded
from unclip.training.tasks.degrade import DAMAGES, KERNELS, add_grain, blur, compress, degrade, shrink_and_enlarge


def pictures(count: int = 4, side: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(0)) * 2 - 1


def damage(images: torch.Tensor, seed: int) -> torch.Tensor:
    return degrade(images, [seeded(seed)] * len(images))


def test_a_turned_blur_has_the_covariance_of_its_gaussian() -> None:
    image, angle = torch.zeros(1, 1, 21, 21), math.radians(30)
    image[0, 0, 10, 10] = 1.0
    spread = blur(image, *torch.tensor([[1.2], [0.6], [angle]]))[0, 0].double()
    offsets = torch.arange(21).double() - 10
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    covariance = torch.stack([(spread * a * b).sum() for a, b in ((x, x), (x, y), (y, y))])
    cos, sin = math.cos(angle), math.sin(angle)
    turned = [1.44 * cos**2 + 0.36 * sin**2, (1.44 - 0.36) * cos * sin, 1.44 * sin**2 + 0.36 * cos**2]
    torch.testing.assert_close(spread.sum().item(), 1.0, atol=1e-6, rtol=0)
    torch.testing.assert_close(covariance, torch.tensor(turned).double(), atol=0.02, rtol=0)


@pytest.mark.parametrize("down", KERNELS)
@pytest.mark.parametrize("up", KERNELS)
def test_resizing_blurs_in_place(down: str, up: str) -> None:
    """A picture keeps its mean and, where it is a gradient, its place: none of the kernels moves it."""
    ramp = torch.linspace(-1, 1, 40).expand(1, 3, 40, 40)
    resized = shrink_and_enlarge(ramp, 0.5, down, up)
    assert resized.shape == ramp.shape
    torch.testing.assert_close(resized.mean(), ramp.mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(resized[..., 8:-8], ramp[..., 8:-8], atol=0.03, rtol=0)
    assert shrink_and_enlarge(pictures(), 0.5, down, up).var() < 0.6 * pictures().var()


@pytest.mark.parametrize("grey", [True, False])
def test_grain_has_its_deviation_and_grey_is_the_same_in_all_channels(grey: bool) -> None:
    noise = add_grain(torch.zeros(1, 3, 100, 100), 0.05, grey, seeded(1))
    assert noise.std().item() == pytest.approx(0.05, rel=0.03)
    assert torch.equal(noise[:, 0], noise[:, 1]) == grey


def test_jpeg_keeps_flat_pictures_and_loses_more_at_low_quality() -> None:
    flat = torch.full((2, 3, 16, 16), 0.2)
    torch.testing.assert_close(compress(flat, 40), flat, atol=0.02, rtol=0)
    errors = [float((compress(pictures(), quality) - pictures()).square().mean()) for quality in (95, 40)]
    assert 0.0 < errors[0] < errors[1]


def test_damage_is_the_generators_and_the_pixels_of_others_do_not_matter() -> None:
    first = damage(pictures(), 3)
    assert torch.equal(first, damage(pictures(), 3))
    others = pictures()
    others[1:] = 0.0
    assert torch.equal(first[0], damage(others, 3)[0])
    assert not torch.equal(first, damage(pictures(), 4))


def test_as_many_stay_whole_as_no_damage_strikes() -> None:
    images = pictures(600, 8)
    damaged = damage(images, 5)
    whole = (damaged == images).flatten(1).all(dim=1).float().mean().item()
    expected = math.prod(1 - prob for prob, _ in DAMAGES)
    assert abs(whole - expected) < 4 * math.sqrt(expected * (1 - expected) / 600)
    assert to_uint8(damaged).shape == (600, 8, 8, 3)


def test_autocast_does_not_reach_the_pixels() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        inside = damage(pictures(), 6)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, damage(pictures(), 6))


def test_jpeg_takes_a_coverage_for_a_grey_picture() -> None:
    images = torch.cat([pictures(2), pictures(2).flip(0)[:, :1]], dim=1)
    compressed = compress(images, 40)
    assert torch.equal(compressed[:, :3], compress(images[:, :3], 40))
    torch.testing.assert_close(compressed[:, 3:], compress(images[:, 3:].expand(-1, 3, -1, -1), 40)[:, :1])
