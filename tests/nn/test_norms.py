"""Normalisation keeps its statistics in float32 and its result in the type that came in."""

import pytest
import torch
from torch import nn

from unclip.nn import GroupNorm32, LayerNorm32, PixelNorm32, make_norm


def far_from_zero(*shape: int) -> torch.Tensor:
    """Numbers whose squares bfloat16 sums could not hold: mean 30, standard deviation 1."""
    return (30 + torch.randn(*shape)).bfloat16()


@pytest.mark.parametrize("autocast", [False, True])
def test_group_norm_of_bfloat16_is_accurate(autocast: bool) -> None:
    x, norm = far_from_zero(2, 64, 16, 16), GroupNorm32(64)
    expected = nn.functional.group_norm(x.double(), 32, eps=1e-5)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        actual = (norm if autocast else norm.bfloat16())(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.double(), expected, rtol=2**-8, atol=1e-3)


def test_layer_norm_of_bfloat16_is_accurate() -> None:
    x = far_from_zero(4, 7, 256)
    actual = LayerNorm32(256).bfloat16()(x)
    assert actual.dtype == torch.bfloat16
    expected = nn.functional.layer_norm(x.double(), (256,))
    torch.testing.assert_close(actual.double(), expected, rtol=2**-8, atol=1e-3)


def test_scale_and_shift_are_applied() -> None:
    norm, x = LayerNorm32(8), torch.randn(3, 8)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, -1.0)
    torch.testing.assert_close(norm(x), 2 * nn.functional.layer_norm(x, (8,)) - 1)


@pytest.mark.parametrize(("channels", "groups"), [(320, 32), (64, 32), (48, 16), (20, 4), (7, 1)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    assert GroupNorm32(channels).num_groups == groups


def test_pixel_norm_of_bfloat16_is_accurate() -> None:
    x = far_from_zero(2, 64, 5, 7)
    actual = PixelNorm32(64).bfloat16()(x)
    assert actual.dtype == torch.bfloat16
    mean, variance = x.double().mean(dim=1, keepdim=True), x.double().var(dim=1, keepdim=True, correction=0)
    torch.testing.assert_close(actual.double(), (x.double() - mean) / (variance + 1e-5).sqrt(), rtol=2**-8, atol=1e-3)


def test_pixel_norm_scales_and_shifts_channels() -> None:
    norm, x = make_norm("pixel", 8), torch.randn(2, 8, 3, 5)
    plain = norm(x)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(x), norm.weight[:, None, None] * plain + norm.bias[:, None, None])
