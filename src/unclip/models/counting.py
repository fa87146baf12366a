"""Counts parameters, their bytes and floating-point operations. Knows no network in particular."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.checkpoint import Storage


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers left out."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_bytes(module: nn.Module) -> dict[Storage, int]:
    """Bytes of the parameters in each storage; int8 keeps vectors, and a scale per output channel, in float32."""
    count = count_parameters(module)
    int8 = sum(p.numel() + 4 * len(p) if p.ndim > 1 else 4 * p.numel() for p in module.parameters())
    return {"float32": 4 * count, "bfloat16": 2 * count, "int8": int8}


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations of one call, two per multiply-add; with all tensors on meta nothing is computed."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        function(*args)
    return int(counter.get_total_flops())
