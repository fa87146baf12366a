"""Choose the precision of training by what a device does fastest."""

import time

import torch
from torch.nn import functional as F

from unclip.runtime import autocast, inference_dtype, seeded
from unclip.training.config import Precision

NUM_TIMED = 8
"""Passes that a precision is measured with, of a few hundredths of a second."""


def fastest_precision(device: torch.device) -> Precision:
    """Return the precision in which a 3 x 3 convolution trains fastest on `device`, measured on a CPU in a second.

    bfloat16 is half as fast as float32 on some processors that have it, and several times as fast on others.
    """
    native = inference_dtype(device)
    if device.type != "cpu" or native == torch.float32:
        return "bfloat16" if native == torch.bfloat16 else "float32"
    return "bfloat16" if _convolution_seconds(torch.bfloat16) < _convolution_seconds(torch.float32) else "float32"


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Time the fastest of a few passes forward and back, with the casts of autocast."""
    maps, weight = (
        torch.randn(shape, generator=seeded(0)).contiguous(memory_format=torch.channels_last).requires_grad_()
        for shape in ((32, 128, 16, 16), (128, 128, 3, 3))
    )
    seconds = []
    for _ in range(NUM_TIMED):
        started = time.perf_counter()
        with autocast(maps.device, dtype):
            output = F.conv2d(maps, weight, padding=1)
        output.float().mean().backward()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
