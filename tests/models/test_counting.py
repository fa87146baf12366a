"""Counts against arithmetic."""

import torch
from torch import nn

from unclip.models import Upsampler, count_flops, count_parameters, upsampler_preset


def test_counts_of_a_convolution_and_a_linear_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert count_parameters(net) == 3 * 8 * 9 + 8 + 8 * 16 * 5 + 5
    assert count_flops(net, torch.randn(2, 3, 4, 4)) == 2 * 2 * (16 * 3 * 8 * 9 + 8 * 16 * 5)


def test_meta_tensors_count_without_computing() -> None:
    config = upsampler_preset("karlo")
    with torch.device("meta"):
        flops = count_flops(Upsampler(config), torch.empty(1, 3, 256, 256), torch.empty(1), torch.empty(1, 3, 64, 64))
    assert abs(flops / 1e9 - 8497.4) < 0.1
