"""Damage small pictures at random, as pictures found elsewhere are damaged.

After BSRGAN (Zhang et al. 2021, section 3): blur, resizing, noise and JPEG compression in random order, which is how
unCLIP's second upsampler is trained (paper, section 2.3). Here they are milder and each leaves most pictures out, since
what this model enlarges comes from its own stages or from a person's good file.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.images import from_uint8, to_pil
from unclip.shapes import Images

TAPS = 9
LEAST_SIGMA = 1e-3
SIGMA = (0.2, 1.5)  # standard deviation of the blur, in pixels
SCALE = (0.5, 1.0)  # side after shrinking, as a share
GRAIN = (0.0, 0.08)  # standard deviation of the noise; 0.08 is ten of 255 levels
QUALITY = (40, 95)  # of JPEG
KERNELS = ("area", "bilinear", "bicubic")


def degrade(images: Images, generators: Sequence[torch.Generator]) -> Images:
    """Damage each picture by its own random choice of blur, resizing, noise and JPEG in random order.

    All randomness comes from `generators`, one a picture, in an order that does not depend on the pixels; three
    pictures in ten stay as they are. Shape and device stay too.
    """
    damaged = []
    # Without autocast: bfloat16 has fewer levels than 8-bit colour, and the antialiased kernels no form in it.
    with torch.autocast("cpu", enabled=False):
        for image, generator in zip(images.cpu().split(1), generators, strict=True):
            order = torch.randperm(len(DAMAGES), generator=generator).tolist()
            draws = torch.rand(len(DAMAGES), generator=generator)
            for index in order:
                prob, damage = DAMAGES[index]
                image = damage(image, generator) if draws[index] < prob else image
            damaged.append(image)
    return torch.cat(damaged).to(images.device)


# Blur by a Gaussian with its axes turned, BSRGAN section 3.1.
def blur(images: Images, sigma_1: Tensor, sigma_2: Tensor, angle: Tensor, taps: int = TAPS) -> Images:
    """Blur each picture by a Gaussian with deviations `sigma_1` along `angle` and `sigma_2` across it.

    `sigma_1`, `sigma_2` in pixels and `angle` in radians are (batch,); the kernel has `taps` pixels a side. Edges are
    repeated.
    """
    batch, channels, height, _ = images.shape
    pad = taps // 2
    offsets = torch.arange(taps, dtype=torch.float32, device=images.device) - pad
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    sigma_1, sigma_2 = (sigma.clamp_min(LEAST_SIGMA)[:, None, None] for sigma in (sigma_1, sigma_2))
    kernel = torch.exp(-0.5 * (((x * cos + y * sin) / sigma_1) ** 2 + ((y * cos - x * sin) / sigma_2) ** 2))
    kernel = (kernel / kernel.sum(dim=(1, 2), keepdim=True)).repeat_interleave(channels, dim=0)
    # One group a channel of a picture, so that each has its own kernel.
    padded = F.pad(images, (pad,) * 4, mode="replicate").reshape(1, batch * channels, height + 2 * pad, -1)
    return F.conv2d(padded, kernel[:, None], groups=batch * channels).reshape(images.shape)


# Down- and upsampling, BSRGAN section 3.2; the nearest neighbour is left out, as it moves the picture.
def shrink_and_enlarge(images: Images, scale: float, down: str, up: str) -> Images:
    """Resize to `scale` of each side with the kernel `down`, and back with `up` (of `KERNELS`)."""
    height, width = images.shape[2:]
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    small = F.interpolate(images, size, mode=down, antialias=down != "area")
    return F.interpolate(small, (height, width), mode=up, antialias=up != "area")


# Gaussian noise, BSRGAN section 3.3: independent in each channel, or the same grey in all.
def add_grain(images: Images, sigma: float, grey: bool, generator: torch.Generator) -> Images:
    """Add noise of standard deviation `sigma`."""
    noise = torch.randn(images.shape, generator=generator)
    return images + sigma * (noise[:, :1] if grey else noise)


# JPEG compression noise, BSRGAN section 3.3.
def compress(images: Images, quality: int) -> Images:
    """Write each picture as JPEG of that quality, and read it; a coverage behind the colours as a grey one."""
    colours, coverage = images[:, :3], images[:, 3:]
    if coverage.shape[1]:
        return torch.cat([compress(colours, quality), compress(coverage.expand(-1, 3, -1, -1), quality)[:, :1]], dim=1)
    compressed = []
    for picture in to_pil(colours):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        with Image.open(file) as read:
            compressed.append(from_uint8(np.asarray(read)[None]))
    return torch.cat(compressed)


def _random_blur(image: Tensor, generator: torch.Generator) -> Tensor:
    draws = torch.rand(4, generator=generator)
    sigma_1, sigma_2 = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * draws[:2, None]
    is_isotropic = bool(draws[3] < 0.5)
    return blur(image, sigma_1, sigma_1 if is_isotropic else sigma_2, math.pi * draws[2:3])


def _random_resize(image: Tensor, generator: torch.Generator) -> Tensor:
    scale = _between(SCALE, float(torch.rand((), generator=generator)))
    down, up = torch.randint(len(KERNELS), (2,), generator=generator).tolist()
    return shrink_and_enlarge(image, scale, KERNELS[down], KERNELS[up])


def _random_grain(image: Tensor, generator: torch.Generator) -> Tensor:
    sigma, grey = torch.rand(2, generator=generator).tolist()
    return add_grain(image, _between(GRAIN, sigma), grey < 0.5, generator)


def _random_jpeg(image: Tensor, generator: torch.Generator) -> Tensor:
    return compress(image, int(torch.randint(QUALITY[0], QUALITY[1] + 1, (), generator=generator)))


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


DAMAGES: tuple[tuple[float, Callable[[Tensor, torch.Generator], Tensor]], ...] = (
    (0.4, _random_blur),
    (0.2, _random_resize),
    (0.2, _random_grain),
    (0.25, _random_jpeg),
)
"""Each with the share of pictures that it damages."""
