"""A pre-norm transformer block that can continue a sequence from cached keys and values. Knows no tokens' meaning."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn.attention import attention
from unclip.nn.norms import LayerNorm32
from unclip.shapes import Hidden

__all__ = ["KeysValues", "TransformerBlock"]

KeysValues = Float[Tensor, "batch 2 heads _ head_dim"]


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)) with the exact GELU; all linear layers have biases.

    `depth`, the number of blocks in the stack, scales the initial residual branches by 1 / sqrt(2 depth) (GPT-2).
    """

    def __init__(self, width: int, num_heads: int, *, depth: int, ff_mult: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.norm_1 = LayerNorm32(width)
        self.qkv = _linear(width, 3 * width)
        self.out = _linear(width, width, scale=(2 * depth) ** -0.5)
        self.norm_2 = LayerNorm32(width)
        self.ff_in = _linear(width, ff_mult * width)
        self.ff_out = _linear(ff_mult * width, width, scale=(2 * depth) ** -0.5)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Hidden,
        mask: Bool[Tensor, "#batch 1 length keys"] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Hidden, KeysValues]:
        """Transform tokens; also return the keys and values that they show to tokens that follow.

        With `past` they continue the sequence whose keys and values it holds. `mask` is True where a query may look;
        its keys are those of `past`, then those of `x`.
        """
        packed = self.qkv(self.norm_1(x)).unflatten(-1, (3, -1, self.head_dim))
        q, own = packed[:, :, 0].transpose(1, 2), packed[:, :, 1:].permute(0, 2, 3, 1, 4)
        known = own if past is None else torch.cat([past.to(own.dtype), own], dim=3)
        mixed = attention(q, known[:, 0], known[:, 1], mask).transpose(1, 2).flatten(2)  # (N, L, width)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.ff_out(F.gelu(self.ff_in(self.norm_2(x))))), own


def _linear(in_dim: int, out_dim: int, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(in_dim, out_dim)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(in_dim))
    nn.init.zeros_(layer.bias)
    return layer
