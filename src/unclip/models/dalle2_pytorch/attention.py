"""DALLE2-pytorch's attention: multi-query over a sequence, to conditioning tokens, and linear over pixels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.models.dalle2_pytorch.layers import GainNorm, normalized, rotate
from unclip.nn import Block, Linear, exact_type
from unclip.shapes import Hidden, Images

# The factor of the logits wherever they are cosines.
COSINE_SCALE = 16.0


class MultiQueryAttention(Block):
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


_CROSS_HEADS, _CROSS_HEAD_DIM = 8, 64


class CrossAttention(nn.Module):
    """norm, attention of 8 heads of 64 with a learned null key and value that all heads share, projection, norm."""

    def __init__(self, width: int, context_dim: int, *, cosine: bool) -> None:
        super().__init__()
        inner_dim = _CROSS_HEADS * _CROSS_HEAD_DIM
        self.cosine = cosine
        self.norm = GainNorm(width)
        self.null_kv = nn.Parameter(torch.randn(2, _CROSS_HEAD_DIM))
        self.to_q = Linear(width, inner_dim, bias=False)
        self.to_kv = Linear(context_dim, 2 * inner_dim, bias=False)
        self.to_out = nn.Sequential(Linear(inner_dim, width, bias=False), GainNorm(width))

    def forward(self, x: Images, context: Float[Tensor, "batch length context_dim"]) -> Images:
        """Attend from each pixel to the tokens of `context`."""
        tokens = self.norm(x.flatten(2).transpose(1, 2))  # (N, H W, C)
        q = self.to_q(tokens).unflatten(-1, (_CROSS_HEADS, -1)).transpose(1, 2)
        k, v = self.to_kv(context).unflatten(-1, (2, _CROSS_HEADS, -1)).permute(2, 0, 3, 1, 4)
        null_k, null_v = self.null_kv.to(x.dtype)[:, None, None, None].expand(-1, len(x), _CROSS_HEADS, -1, -1)
        k, v = torch.cat([null_k, k], dim=2), torch.cat([null_v, v], dim=2)
        q, k = normalized(q, self.cosine), normalized(k, self.cosine)
        scale = COSINE_SCALE if self.cosine else _CROSS_HEAD_DIM**-0.5
        dtype = exact_type(q)
        mixed = F.scaled_dot_product_attention(q.to(dtype), k.to(dtype), v.to(dtype), scale=scale).to(q.dtype)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out.transpose(1, 2).unflatten(2, x.shape[2:])


# Efficient attention, Shen et al. 2018: softmax(q) (softmax(k)^T v), linear in the number of pixels.
class LinearAttention(Block):
    """norm, linear attention over pixels, GELU, projection, norm.

    `normalized` makes values unit vectors and divides keys and values by the root of the number of pixels, as since
    version 1.4.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int, *, normalized: bool) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.normalized = normalized
        self.norm = GainNorm(width, channels=True)
        self.to_qkv = nn.Conv2d(width, 3 * num_heads * head_dim, 1, bias=False)
        self.to_out = nn.Sequential(
            nn.Conv2d(num_heads * head_dim, width, 1, bias=False), GainNorm(width, channels=True)
        )

    def forward(self, x: Images) -> Images:
        """Attend from each pixel to all pixels."""
        packed = self.to_qkv(self.norm(x)).flatten(2).unflatten(1, (3, -1, self.head_dim))  # (N, 3, heads, dim, H W)
        q, k, v = packed.unbind(1)
        q = q.softmax(dim=2, dtype=torch.float32).to(x.dtype) * self.head_dim**-0.5
        k = k.softmax(dim=3, dtype=torch.float32).to(x.dtype)
        if self.normalized:
            root = k.shape[3] ** 0.5
            k, v = k / root, F.normalize(v, dim=2) / root
        dtype = exact_type(q)
        context = k.to(dtype) @ v.to(dtype).transpose(2, 3)  # (N, heads, dim of k, dim of v)
        mixed = (context.transpose(2, 3) @ q.to(dtype)).to(q.dtype).flatten(1, 2).unflatten(2, x.shape[2:])
        out: Tensor = self.to_out(F.gelu(mixed))
        return out


def attend(attention: nn.Module, x: Images) -> Images:
    """Add the result of `attention` to `x`; a level without attention returns `x`."""
    if isinstance(attention, MultiQueryAttention):
        return x + attention(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
    if isinstance(attention, LinearAttention):
        return x + attention(x)
    return x
