"""DALLE2-pytorch's causal transformer, with its parameter names. Knows no tokens' meaning."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.models.dalle2_pytorch.attention import Attention
from unclip.models.dalle2_pytorch.layers import GainNorm
from unclip.nn import Block, Linear
from unclip.shapes import Hidden

__all__ = ["CausalTransformer", "FeedForward"]

_NUM_BUCKETS, _MAX_DISTANCE = 32, 128


class CausalTransformer(nn.Module):
    """Attention and a gated MLP, each added to its input, `depth` times; relative position biases, and a final norm.

    `position_bias_scale` multiplies the biases.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        head_dim: int,
        *,
        ff_mult: int,
        norm_in: bool,
        norm_ff: bool,
        norm_out: bool,
        project_out: bool,
        rotary: bool,
        logit_scale: float,
        cosine: bool,
        position_bias_scale: float,
        attention_dropout: float,
        ff_dropout: float,
    ) -> None:
        super().__init__()
        self.init_norm = GainNorm(width) if norm_in else nn.Identity()
        self.rel_pos_bias = PositionBias(num_heads, position_bias_scale)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(
                        width,
                        num_heads,
                        head_dim,
                        logit_scale=logit_scale,
                        cosine=cosine,
                        rotary_dim=min(32, head_dim) if rotary else 0,
                        dropout=attention_dropout,
                    ),
                    FeedForward(width, ff_mult, norm=norm_ff, dropout=ff_dropout),
                ]
            )
            for _ in range(depth)
        )
        self.norm = GainNorm(width, divided=True) if norm_out else nn.Identity()
        self.project_out = Linear(width, width, bias=False) if project_out else nn.Identity()

    def forward(self, x: Hidden) -> Hidden:
        """Transform tokens; each sees itself and those before it."""
        x = self.init_norm(x)
        bias = self.rel_pos_bias(x.shape[1])
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = x + attention(x, bias)
            x = x + feed_forward(x)
        out: Tensor = self.project_out(self.norm(x))
        return out


class PositionBias(nn.Module):
    """T5's bias by distance, causal; the distance is one too small, because the null key is counted as the first token.

    So a token and the one before it share a bucket.
    """

    def __init__(self, num_heads: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.relative_attention_bias = nn.Embedding(_NUM_BUCKETS, num_heads)

    def forward(self, length: int) -> Float[Tensor, "heads length keys"]:
        """Biases of `length` queries and length + 1 keys; -inf where a query may not look."""
        device = self.relative_attention_bias.weight.device
        distance = torch.arange(length, device=device)[:, None] - torch.arange(length + 1, device=device)
        bias = self.scale * self.relative_attention_bias(_bucket(distance)).permute(2, 0, 1)
        return bias.masked_fill(distance < -1, -math.inf)


# T5's buckets: one a distance up to half of them, the rest spaced in its logarithm.
def _bucket(distance: Int64[Tensor, "length keys"]) -> Int64[Tensor, "length keys"]:
    exact = _NUM_BUCKETS // 2
    far = distance.clamp(min=exact).float()
    spaced = exact + (torch.log(far / exact) / math.log(_MAX_DISTANCE / exact) * (_NUM_BUCKETS - exact)).long()
    return torch.where(distance < exact, distance.clamp(min=0), spaced.clamp(max=_NUM_BUCKETS - 1))


class SwiGlu(nn.Module):
    """The first half of the channels, times SiLU of the second."""

    def forward(self, x: Hidden) -> Float[Tensor, "batch length half"]:
        """Gate `x`."""
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)


class FeedForward(Block, nn.Sequential):
    """A gated MLP whose hidden layer is `mult` times as wide, normalised if `norm`; its layers go by their numbers."""

    def __init__(self, width: int, mult: int, *, norm: bool, dropout: float) -> None:
        super().__init__(
            GainNorm(width),
            Linear(width, 2 * mult * width, bias=False),
            SwiGlu(),
            GainNorm(mult * width) if norm else nn.Identity(),
            nn.Dropout(dropout),
            Linear(mult * width, width, bias=False),
        )
