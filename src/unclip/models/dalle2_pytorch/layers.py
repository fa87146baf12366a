"""Layers of both networks of DALLE2-pytorch, with its parameter names."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.shapes import Sample, Timesteps


class GainNorm(nn.Module):
    """Layer normalisation with a gain `g` and no bias, over the last axis or over the channels of a feature map.

    Statistics are float32. `divided` first divides by the greatest entry, as in the original: where all entries are
    negative the result changes its sign, as it did in training.
    """

    def __init__(self, width: int, *, channels: bool = False, divided: bool = False) -> None:
        super().__init__()
        self.axis = 1 if channels else -1
        self.divided = divided
        self.g = nn.Parameter(torch.ones(1, width, 1, 1) if channels else torch.ones(width))

    def forward(self, x: Sample) -> Sample:
        """Normalise; the result has the type of `x`."""
        h = x.float()
        if self.divided:
            h = h / h.amax(dim=self.axis, keepdim=True)
        variance, mean = torch.var_mean(h, dim=self.axis, correction=0, keepdim=True)
        return ((h - mean) * (variance + 1e-5).rsqrt() * self.g.float()).to(x.dtype)


class Sinusoid(nn.Module):
    """[sin(f_i t), cos(f_i t)] with f_i = 10000^(-i / (dim / 2 - 1)), float32.

    `truncated` rounds towards zero: before version 1.9 the input was an integer, and so was the output.
    """

    def __init__(self, dim: int, *, truncated: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.truncated = truncated

    def forward(self, timestep: Timesteps) -> Float[Tensor, "batch dim"]:
        """Embed `timestep`."""
        half = self.dim // 2
        index = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.float()[:, None] * torch.exp(index * (-math.log(10_000) / (half - 1)))  # (N, dim / 2)
        sinusoid = torch.cat([angles.sin(), angles.cos()], dim=1)
        return sinusoid.trunc() if self.truncated else sinusoid


# Rotary embedding, RoFormer eq. 34, on neighbouring pairs of the first `dim` channels.
def rotate(x: Float[Tensor, "*batch length head_dim"], dim: int) -> Float[Tensor, "*batch length head_dim"]:
    """Rotate queries or keys by their position in the sequence."""
    frequency = 10_000 ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=x.device) / dim)
    place = torch.arange(x.shape[-2], dtype=torch.float32, device=x.device)
    angles = place[:, None] * frequency  # (L, dim / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[..., :dim].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([left * cos - right * sin, right * cos + left * sin], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., dim:]], dim=-1)


def normalized(x: Tensor, on: bool) -> Tensor:
    """Normalise to unit vectors along the last axis if `on`."""
    return F.normalize(x, dim=-1) if on else x
