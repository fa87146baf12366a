"""The convolutional blocks of DALLE2-pytorch's U-Net, with its parameter names."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.models.dalle2_pytorch.attention import CrossAttention
from unclip.models.dalle2_pytorch.config import Downsample, Upsample
from unclip.nn import Block, Linear
from unclip.shapes import Embeddings, Images

NewImages = Float[Tensor, "batch out_channels new_height new_width"]


class Dalle2ResBlock(Block):
    """conv-norm-SiLU twice beside a skip connection; the time scales and shifts the first norm's result.

    With `context_dim`, pixels attend to conditioning tokens between the two. `standardized` makes each filter's weights
    mean 0 and variance 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_dim: int,
        num_groups: int,
        *,
        context_dim: int | None = None,
        standardized: bool,
        cosine: bool,
    ) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.SiLU(), Linear(time_dim, 2 * out_channels))
        self.cross_attn = None if context_dim is None else CrossAttention(out_channels, context_dim, cosine=cosine)
        self.block1 = _ConvBlock(in_channels, out_channels, num_groups, standardized)
        self.block2 = _ConvBlock(out_channels, out_channels, num_groups, standardized)
        self.res_conv = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Images, time: Embeddings, context: Float[Tensor, "batch length context_dim"]) -> NewImages:
        """Transform a feature map; `context` is unused by blocks without `context_dim`."""
        h = self.block1(x, self.time_mlp(time)[:, :, None, None])
        if self.cross_attn is not None:
            h = h + self.cross_attn(h, context)
        skip: Tensor = self.res_conv(x)
        return self.block2(h) + skip


class _ConvBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, num_groups: int, standardized: bool) -> None:
        super().__init__()
        convolution = _StandardizedConv if standardized else nn.Conv2d
        self.project = convolution(in_channels, out_channels, 3, padding=1)
        self.norm = nn.GroupNorm(num_groups, out_channels)

    def forward(self, x: Images, scale_shift: Tensor | None = None) -> NewImages:
        h = self.norm(self.project(x))
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, dim=1)
            h = h * (scale + 1) + shift
        return F.silu(h)


# Weight standardisation, Qiao et al. 2019.
class _StandardizedConv(nn.Conv2d):
    def forward(self, input: Images) -> NewImages:
        weight = self.weight.float()
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)
        weight = (weight - mean) * (variance + 1e-5).rsqrt()
        return F.conv2d(input, weight.to(input.dtype), self.bias, self.stride, self.padding)


class CrossEmbed(nn.Module):
    """Convolutions of several kernels side by side; the smallest gives half of the channels, the next a quarter, ..."""

    def __init__(self, in_channels: int, out_channels: int, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        shares = [out_channels // 2**power for power in range(1, len(kernels))]
        shares.append(out_channels - sum(shares))
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, share, kernel, stride=stride, padding=(kernel - stride) // 2)
            for share, kernel in zip(shares, sorted(kernels), strict=True)
        )

    def forward(self, x: Images) -> NewImages:
        """Convolve and concatenate."""
        return torch.cat([convolution(x) for convolution in self.convs], dim=1)


def downsample(how: Downsample, in_channels: int, out_channels: int, kernels: Sequence[int]) -> nn.Module:
    """Make a layer that halves height and width; `kernels` are those of "cross_embed"."""
    if how == "cross_embed":
        return CrossEmbed(in_channels, out_channels, kernels, stride=2)
    if how == "conv":
        return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, out_channels, 1))


class _PixelShuffle(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.SiLU(), nn.PixelShuffle(2))

    def forward(self, x: Images) -> NewImages:
        out: Tensor = self.net(x)
        return out


def upsample(how: Upsample, in_channels: int, out_channels: int) -> nn.Module:
    """Make a layer that doubles height and width."""
    if how == "pixel_shuffle":
        return _PixelShuffle(in_channels, out_channels)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(in_channels, out_channels, 3, padding=1)
    )
