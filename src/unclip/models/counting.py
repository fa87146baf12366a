"""Counts parameters and floating-point operations. Knows no network in particular."""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_flops", "count_parameters"]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers left out."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(module: nn.Module, *args: Any) -> int:
    """Floating-point operations of one forward pass, two per multiply-add; on meta tensors nothing is computed."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*args)
    return int(counter.get_total_flops())
