"""What a device can do at best: the fastest of several matrix products and convolutions."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.config import Config
from unclip.runtime import seeded

T = TypeVar("T")

# Square products, smallest first, and convolutions of 3 x 3 as (pictures, channels, side).
SIDES = (512, 1024, 2048, 4096, 8192, 16384)
CONVOLUTIONS = ((1, 128, 32), (1, 320, 32), (1, 256, 64), (4, 512, 32), (8, 320, 64), (16, 512, 64))
NUM_TRIALS = 3
# No larger size is tried once one product takes this long: a size four times the time is no faster then.
MAX_SECONDS = 0.1


class DevicePeak(Config):
    """Floating-point operations a second, two per multiply-add, in one number format."""

    matmul: float
    """The fastest square matrix product."""
    convolution: float
    """The fastest convolution of 3 x 3, channels last."""


@torch.inference_mode()
def measure_peak(device: torch.device, dtype: torch.dtype) -> DevicePeak:
    """Measure the best of a few seconds of each, with torch's threads and settings as they are."""

    # Not zeros, on which some devices take less power and so run faster.
    def normal(*shape: int) -> Tensor:
        numbers = torch.randn(shape, generator=seeded(0)).to(device, dtype)
        return numbers.to(memory_format=torch.channels_last) if len(shape) == 4 else numbers

    def matmul(side: int) -> Callable[[], Tensor]:
        first, second = normal(side, side), normal(side, side)
        return lambda: first @ second

    def convolution(shape: tuple[int, int, int]) -> Callable[[], Tensor]:
        pictures, channels, side = shape
        x, weight = normal(pictures, channels, side, side), normal(channels, channels, 3, 3)
        return lambda: F.conv2d(x, weight, padding=1)

    products = {side: 2 * side**3 for side in SIDES}
    convolutions = {shape: 18 * shape[0] * shape[1] ** 2 * shape[2] ** 2 for shape in CONVOLUTIONS}
    return DevicePeak(matmul=_best(device, products, matmul), convolution=_best(device, convolutions, convolution))


def _best(device: torch.device, sizes: Mapping[Any, int], prepare: Callable[[Any], Callable[[], Tensor]]) -> float:
    best = 0.0
    for size, flops in sizes.items():
        work = prepare(size)
        work()
        seconds = min(timed(work, device)[0] for _ in range(NUM_TRIALS))
        best = max(best, flops / seconds)
        if seconds > MAX_SECONDS:
            break
    return best


def timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Return the seconds that `work` took on the device, and its result."""
    _synchronize(device)
    started = time.perf_counter()
    result = work()
    _synchronize(device)
    return time.perf_counter() - started, result


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
