"""DALLE2-pytorch's attention over a sequence, all heads on one set of keys. Knows no tokens' meaning."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.models.dalle2_pytorch.layers import GainNorm, normalized, rotate
from unclip.nn import Block, Linear, exact_type
from unclip.shapes import Hidden

__all__ = ["COSINE_SCALE", "Attention"]

# The factor of the logits wherever they are cosines.
COSINE_SCALE = 16.0


class Attention(Block):
    """norm, multi-query attention with a learned null key and value before the others, projection, norm.

    Logits are `logit_scale` times q k^T, or times the cosine of the two. `rotary_dim` channels are rotated; the null
    key is not.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        head_dim: int,
        *,
        logit_scale: float,
        cosine: bool,
        rotary_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.logit_scale = logit_scale
        self.cosine = cosine
        self.rotary_dim = rotary_dim
        self.dropout = dropout
        self.norm = GainNorm(width)
        self.null_kv = nn.Parameter(torch.randn(2, head_dim))
        self.to_q = Linear(width, num_heads * head_dim, bias=False)
        self.to_kv = Linear(width, 2 * head_dim, bias=False)
        self.to_out = nn.Sequential(Linear(num_heads * head_dim, width, bias=False), GainNorm(width))

    def forward(self, x: Hidden, bias: Float[Tensor, "heads length keys"] | None = None) -> Hidden:
        """Mix tokens; `bias` is added to the logits, of length + 1 keys of which the null key is the first."""
        x = self.norm(x)
        q = self.to_q(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (N, heads, L, head_dim)
        k, v = self.to_kv(x)[:, None].chunk(2, dim=-1)  # (N, 1, L, head_dim)
        if self.rotary_dim:
            q, k = rotate(q, self.rotary_dim), rotate(k, self.rotary_dim)
        null_k, null_v = self.null_kv.to(x.dtype).expand(len(x), 1, -1, -1).split(1, dim=2)
        k, v = torch.cat([null_k, k], dim=2), torch.cat([null_v, v], dim=2)
        q, k = normalized(q, self.cosine), normalized(k, self.cosine)
        dtype = exact_type(q)
        mixed = F.scaled_dot_product_attention(
            q.to(dtype),
            k.to(dtype).expand(-1, q.shape[1], -1, -1),
            v.to(dtype).expand(-1, q.shape[1], -1, -1),
            attn_mask=None if bias is None else bias.to(dtype),
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.logit_scale,
        ).to(q.dtype)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out
