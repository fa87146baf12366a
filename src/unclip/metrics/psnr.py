"""Peak signal-to-noise ratio of two pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.shapes import Images

PEAK = 2.0  # between black and white, of pixels in [-1, 1]


def psnr(images: Images, references: Images) -> Float[Tensor, " batch"]:
    """Compute the peak signal-to-noise ratio in dB of each picture, float64; infinite if both are equal.

    Both are (batch, channels, height, width) in [-1, 1]; nothing is clamped or rounded.
    """
    error = (images.double() - references.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(PEAK**2 / error)
