"""What a device can do at best: the fastest of several matrix products and convolutions. Knows no network of ours."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.config import Config

# Square products, smallest first, and convolutions of 3 x 3 as (pictures, channels, side).
SIDES = (512, 1024, 2048, 4096, 8192, 16384)
CONVOLUTIONS = ((1, 128, 32), (1, 320, 32), (1, 256, 64), (4, 512, 32), (8, 320, 64), (16, 512, 64))
NUM_TRIALS = 3
# No larger size is tried once one product takes this long: a size four times the time is no faster then.
LONGEST = 0.1


class DevicePeak(Config):
    """Floating-point operations a second, two per multiply-add, in one number format."""

    matmul: float
    """The fastest square matrix product."""
    convolution: float
    """The fastest convolution of 3 x 3, channels last."""


@torch.inference_mode()
def measure_peak(device: torch.device, dtype: torch.dtype) -> DevicePeak:
    """The best that was seen of a few seconds of each, with torch's threads and settings as they are."""
    return DevicePeak(
        matmul=_best(device, {side: 2 * side**3 for side in SIDES}, lambda side: _matmul(side, device, dtype)),
        convolution=_best(
            device,
            {shape: 18 * shape[0] * shape[1] ** 2 * shape[2] ** 2 for shape in CONVOLUTIONS},
            lambda shape: _convolution(shape, device, dtype),
        ),
    )


def _best(device: torch.device, sizes: Mapping[Any, int], prepare: Callable[[Any], Callable[[], Tensor]]) -> float:
    best = 0.0
    for size, flops in sizes.items():
        work = prepare(size)
        work()
        seconds = min(_seconds(work, device) for _ in range(NUM_TRIALS))
        best = max(best, flops / seconds)
        if seconds > LONGEST:
            break
    return best


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _matmul(side: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    # Some devices take less power, and so run faster, on zeros.
    first, second = (_normal((side, side), seed).to(device, dtype) for seed in (0, 1))
    return lambda: first @ second


def _convolution(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    pictures, channels, side = shape
    x = _normal((pictures, channels, side, side), 0).to(device, dtype).to(memory_format=torch.channels_last)
    weight = _normal((channels, channels, 3, 3), 1).to(device, dtype).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight, padding=1)


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
