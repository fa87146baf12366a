"""Normalisation keeps its statistics in float32 and its result in the type that came in."""

import pytest
import torch
from torch import nn

from unclip.nn import GroupNorm32, LayerNorm32


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
