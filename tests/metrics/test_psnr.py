"""PSNR of pictures in [-1, 1], against its closed form."""

import math

import torch

from unclip.metrics import psnr


def test_a_shift_by_one_level_of_255() -> None:
    black = torch.full((2, 3, 4, 5), -1.0)
    shifted = black + torch.tensor([1.0, 10.0]).view(2, 1, 1, 1) * 2 / 255
    expected = torch.tensor([20 * math.log10(255), 20 * math.log10(25.5)], dtype=torch.float64)
    torch.testing.assert_close(psnr(shifted, black), expected, rtol=1e-5, atol=0.0)


def test_noise_of_known_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 256, 256, generator=generator)
    found = psnr(0.1 * noise, torch.zeros_like(noise))
    torch.testing.assert_close(
        found, torch.tensor([20 * math.log10(2 / 0.1)], dtype=torch.float64), rtol=0.0, atol=0.05
    )


def test_equal_pictures_are_infinitely_alike() -> None:
    assert psnr(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).isinf().all()
