"""Counts against arithmetic."""

import torch
from torch import nn

from unclip.models import Upsampler, count_bytes, count_flops, count_parameters, upsampler_preset


def test_counts_of_a_convolution_and_a_linear_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert count_parameters(net) == 3 * 8 * 9 + 8 + 8 * 16 * 5 + 5
    assert count_flops(net, torch.randn(2, 3, 4, 4)) == 2 * 2 * (16 * 3 * 8 * 9 + 8 * 16 * 5)


def test_meta_tensors_count_without_computing() -> None:
    config = upsampler_preset("karlo")
    with torch.device("meta"):
        flops = count_flops(Upsampler(config), torch.empty(1, 3, 256, 256), torch.empty(1), torch.empty(1, 3, 64, 64))
    assert abs(flops / 1e9 - 8497.4) < 0.1


def test_bytes_are_those_of_the_stored_tensors() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 5, bias=False))
    weights = 3 * 8 * 9 + 8 * 5
    assert count_bytes(net) == {
        "float32": 4 * (weights + 8),
        "bfloat16": 2 * (weights + 8),
        "int8": weights + 4 * (8 + 5) + 4 * 8,  # A scale for each of 8 and 5 rows; the bias of 8 stays as it is.
    }
