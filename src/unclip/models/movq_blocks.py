"""The blocks of a VQ autoencoder. They know feature maps and, for their norms, a latent; no codebook and no config."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn import GroupNorm32, Linear, Resample, attention, resample, split_heads
from unclip.shapes import Images

__all__ = ["LatentNorm", "Latents", "Level"]

Latents = Float[Tensor, "batch latent_channels latent_height latent_width"]

# VQGAN's; the norms of the U-Nets have 1e-5.
_EPS = 1e-6


class LatentNorm(nn.Module):
    """Group normalisation and, if `latent_channels` is not 0, MoVQ's scale and shift of every pixel from the latent."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm32(channels, eps=_EPS)
        self.scale_shift = nn.Conv2d(latent_channels, 2 * channels, 1) if latent_channels else None

    def forward(self, x: Images, latents: Latents | None) -> Images:
        """Normalise; `latents` may have any size and is needed exactly if built with `latent_channels`."""
        h = self.norm(x)
        if self.scale_shift is None:
            return h
        assert latents is not None, "built with latent_channels but called without a latent"
        # A 1 x 1 convolution commutes with repeating pixels; before it, it costs up to 64 times less.
        scale, shift = F.interpolate(self.scale_shift(latents), size=x.shape[2:], mode="nearest").chunk(2, dim=1)
        return torch.addcmul(shift, h, scale)


class Residual(nn.Module):
    """norm-SiLU-conv twice beside a skip connection (VQGAN)."""

    def __init__(self, in_channels: int, out_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm_1 = LatentNorm(in_channels, latent_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_2 = LatentNorm(out_channels, latent_channels)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Images, latents: Latents | None) -> Float[Tensor, "batch out_channels height width"]:
        """Map a feature map to one of `out_channels`."""
        h = self.conv_1(F.silu(self.norm_1(x, latents)))
        h = self.conv_2(F.silu(self.norm_2(h, latents)))
        skip: Tensor = self.skip(x)
        return skip + h


class PixelAttention(nn.Module):
    """Self-attention over the pixels with a single head, and a residual connection (VQGAN)."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = LatentNorm(channels, latent_channels)
        self.qkv = Linear(channels, 3 * channels)
        self.out = Linear(channels, channels)

    def forward(self, x: Images, latents: Latents | None) -> Images:
        """Attend over all pixels."""
        pixels = self.norm(x, latents).flatten(2).transpose(1, 2)  # (N, H W, C)
        q, k, v = split_heads(self.qkv(pixels), 3, x.shape[1])
        mixed = self.out(attention(q, k, v).transpose(1, 2).flatten(2))  # (N, H W, C)
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])


class Block(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, in_channels: int, out_channels: int, attended: bool, latent_channels: int) -> None:
        super().__init__()
        self.res = Residual(in_channels, out_channels, latent_channels)
        self.attention = PixelAttention(out_channels, latent_channels) if attended else None

    def forward(self, h: Images, latents: Latents | None) -> Float[Tensor, "batch out_channels height width"]:
        """Map a feature map to one of `out_channels`."""
        h = self.res(h, latents)
        return h if self.attention is None else self.attention(h, latents)


class Level(nn.Module):
    """The blocks of one grid size in one direction, and the change to the next grid size."""

    def __init__(
        self, inputs: list[int], width: int, attended: list[bool], direction: Resample, latent_channels: int = 0
    ) -> None:
        super().__init__()
        self.direction: Resample = direction
        self.blocks = nn.ModuleList(
            Block(in_channels, width, attends, latent_channels)
            for in_channels, attends in zip(inputs, attended, strict=True)
        )
        self.resample: nn.Conv2d | None = None
        if direction == "down":
            self.resample = nn.Conv2d(width, width, 3, stride=2)
        elif direction == "up":
            self.resample = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, h: Images, latents: Latents | None = None
    ) -> Float[Tensor, "batch out_channels new_height new_width"]:
        """Map a feature map to one of the level's width on the next level's grid."""
        for block in self.blocks:
            h = block(h, latents)
        if self.resample is None:
            return h
        # Halving pads below and on the right only, as VQGAN does, so that an even size gives exactly half of it.
        h = F.pad(h, (0, 1, 0, 1)) if self.direction == "down" else resample(h, "up")
        resampled: Tensor = self.resample(h)
        return resampled
