"""Normalisation with float32 statistics whose result has the type of its input.

PyTorch's kernels sum bfloat16 and float16 input in float32 already; only the promotion of the result by autocast on
CUDA is undone here, so that later layers run in the low precision.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["group", "pixel"]
# From this size on torch sums channels-last maps thread by thread, so that statistics depend on their number. Rows of
# channels-first maps are summed as a whole; training, where a step may differ in its last bits, saves the copy.
_THREADED_PIXELS = 1024


class GroupNorm32(nn.GroupNorm):
    """Group normalisation over 32 groups, or over gcd(32, channels) where 32 does not divide the channels."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(32, channels), channels, eps=eps)

    def forward(self, input: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalise; statistics float32, result in the type of `input`."""
        large = input.ndim == 4 and input.device.type == "cpu" and input[0, 0].numel() >= _THREADED_PIXELS
        if large and not torch.is_grad_enabled():
            input = input.contiguous()
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps).to(input.dtype)


class LayerNorm32(nn.LayerNorm):
    """Layer normalisation over the last axis."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(width, eps=eps)

    def forward(self, input: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Normalise; statistics float32, result in the type of `input`."""
        if input.dtype == torch.float64:
            return F.layer_norm(input, self.normalized_shape, self.weight.double(), self.bias.double(), self.eps)
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps).to(input.dtype)


class PixelNorm32(LayerNorm32):
    """Layer normalisation over the channels of each pixel: no pixel's result depends on another's."""

    def forward(self, input: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """Normalise; statistics float32, result in the type of `input`, its channels adjacent in memory."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Make the normalisation of a feature map called `norm`."""
    return PixelNorm32(channels) if norm == "pixel" else GroupNorm32(channels)
