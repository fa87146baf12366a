"""A pre-norm transformer block that can continue a sequence from cached keys and values."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn.attention import attention
from unclip.nn.block import Block
from unclip.nn.linear import Linear
from unclip.nn.norms import LayerNorm32
from unclip.shapes import Hidden

Activation = Literal["gelu", "quick_gelu"]
KeysValues = Float[Tensor, "batch 2 heads _ head_dim"]


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation of GELU: x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class TransformerBlock(Block):
    """x + attention(norm(x)), then x + MLP(norm(x)); all linear layers have biases.

    `depth`, the number of blocks in the stack, scales the initial residual branches by 1 / sqrt(2 depth) (GPT-2).
    `causal` hides later tokens, besides what a mask hides.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        depth: int,
        ff_dim: int | None = None,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        causal: bool = False,
    ) -> None:
        super().__init__()
        ff_dim = ff_dim or 4 * width
        self.head_dim = width // num_heads
        self.causal = causal
        self.activation = ACTIVATIONS[activation]
        self.norm_1 = LayerNorm32(width)
        self.qkv = _linear(width, 3 * width)
        self.out = _linear(width, width, scale=(2 * depth) ** -0.5)
        self.norm_2 = LayerNorm32(width)
        self.ff_in = _linear(width, ff_dim)
        self.ff_out = _linear(ff_dim, width, scale=(2 * depth) ** -0.5)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Hidden,
        mask: Bool[Tensor, "#batch 1 length keys"] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Hidden, KeysValues]:
        """Transform tokens; also return their keys and values, for tokens that follow.

        The tokens continue the sequence whose keys and values are `past`. `mask` is True where a query may look;
        its keys are those of `past`, then those of `x`.
        """
        packed = self.qkv(self.norm_1(x)).unflatten(-1, (3, -1, self.head_dim))
        q, new = packed[:, :, 0].transpose(1, 2), packed[:, :, 1:].permute(0, 2, 3, 1, 4)
        all_kv = new if past is None else torch.cat([past.to(new.dtype), new], dim=3)
        mixed = attention(q, all_kv[:, 0], all_kv[:, 1], mask, self.causal).transpose(1, 2).flatten(2)  # (N, L, width)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.ff_out(self.activation(self.ff_in(self.norm_2(x))))), new


def _linear(in_dim: int, out_dim: int, scale: float = 1.0) -> Linear:
    layer = Linear(in_dim, out_dim)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(in_dim))
    nn.init.zeros_(layer.bias)
    return layer
