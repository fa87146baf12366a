"""The residual blocks that both CLIP towers stack. They know hidden states; not pixels, tokens or embeddings."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn import LayerNorm32, attention, split_heads
from unclip.shapes import Hidden

Activation = Literal["quick_gelu", "gelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation of GELU: x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


def linear(in_dim: int, out_dim: int, std: float, bias: bool = True) -> nn.Linear:
    """A linear layer with normal weights of standard deviation `std` and zero bias."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.normal_(layer.weight, std=std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); initial scales as in OpenAI's code for `depth` blocks."""

    def __init__(self, width: int, num_heads: int, depth: int, activation: Activation, causal: bool) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.causal = causal
        self.activation = ACTIVATIONS[activation]
        self.norm_1 = LayerNorm32(width)
        self.qkv = linear(width, 3 * width, std=width**-0.5)
        self.out = linear(width, width, std=(2 * depth * width) ** -0.5)
        self.norm_2 = LayerNorm32(width)
        self.ff_in = linear(width, 4 * width, std=(2 * width) ** -0.5)
        self.ff_out = linear(4 * width, width, std=(2 * depth * width) ** -0.5)

    def forward(self, x: Hidden) -> Hidden:
        """Transform (batch, length, width)."""
        q, k, v = split_heads(self.qkv(self.norm_1(x)), 3, self.head_dim)
        x = x + self.out(attention(q, k, v, causal=self.causal).transpose(1, 2).flatten(2))
        return x + self.ff_out(self.activation(self.ff_in(self.norm_2(x))))


def blocks(width: int, num_heads: int, depth: int, activation: Activation, causal: bool) -> nn.Sequential:
    """`depth` blocks in a row."""
    return nn.Sequential(*(Block(width, num_heads, depth, activation, causal) for _ in range(depth)))
