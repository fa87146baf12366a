"""Embed a time or level, one number a sample, as a vector."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn.linear import Linear
from unclip.shapes import Timesteps


# Sinusoidal embedding, Transformer section 3.5, in ADM's order (all cosines, then all sines).
def timestep_embedding(timestep: Timesteps, dim: int, max_period: float = 10_000.0) -> Float[Tensor, "batch {dim}"]:
    """Return [cos(f_i t), sin(f_i t)] with f_i = max_period^(-i / (dim / 2)), in float32, for even `dim`."""
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=timestep.device)
    angles = timestep.float()[:, None] * torch.exp(index * (-math.log(max_period) / half))  # (N, dim / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoid of `in_dim` numbers, then a linear layer, SiLU and a second linear layer to `out_dim`."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.linear_1 = Linear(in_dim, out_dim)
        self.linear_2 = Linear(out_dim, out_dim)

    def forward(self, timestep: Timesteps) -> Float[Tensor, "batch out_dim"]:
        """Embed `timestep`, in the weights' type from the first linear layer on."""
        sinusoid = timestep_embedding(timestep, self.in_dim).to(self.linear_1.weight.dtype)
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(sinusoid)))
        return embedded
