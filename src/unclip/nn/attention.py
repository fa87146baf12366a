"""Attention by the kernel that suits device and length, and the U-Net's attention over pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from unclip.nn.block import Block
from unclip.nn.init import zeroed
from unclip.nn.linear import Linear, exact_type
from unclip.nn.norms import GroupNorm32
from unclip.shapes import Images, TokenMask

# Up to this many keys two matmuls beat the fused kernel on a CPU (forward and backward, 2 cores with avx512_bf16: 1.2
# times faster training of a whole U-Net with 260 keys in bfloat16).
_PLAIN_KEYS = {torch.bfloat16: 512, torch.float16: 512}
_PLAIN_KEYS_FLOAT32 = 300

Heads = Float[Tensor, "batch heads queries head_dim"]
Context = Float[Tensor, "batch length context_dim"]
Keys = Float[Tensor, "batch heads keys head_dim"]


def attention(
    q: Heads, k: Keys, v: Keys, mask: Bool[Tensor, "#batch 1 #queries keys"] | None = None, causal: bool = False
) -> Heads:
    """Compute softmax(q k^T / sqrt(head_dim)) v. `mask` is True where a query may look; every query needs a key.

    `causal` hides later keys, the last query standing at the last key: with fewer queries than keys it continues a
    sequence.
    """
    dtype = exact_type(q)
    if dtype != q.dtype:
        return attention(q.to(dtype), k.to(dtype), v.to(dtype), mask, causal).to(q.dtype)
    plain = q.device.type == "cpu" and k.shape[-2] <= _PLAIN_KEYS.get(q.dtype, _PLAIN_KEYS_FLOAT32)
    if causal and (plain or mask is not None or q.shape[-2] != k.shape[-2]):
        order = _causal_mask(q.shape[-2], k.shape[-2], q.device)
        mask, causal = order if mask is None else mask & order, False
    if plain:
        return _plain_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def _causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 queries keys"]:
    mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return mask.tril(num_keys - num_queries)[None, None]


# Scaled dot-product attention, Transformer eq. 1. The softmax kernel computes in float32 and rounds once, at the end.
def _plain_attention(q: Heads, k: Keys, v: Keys, mask: Tensor | None) -> Heads:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (N, heads, queries, keys)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def split_heads(packed: Float[Tensor, "batch length _"], parts: int, head_dim: int) -> tuple[Tensor, ...]:
    """Cut a fused projection (batch, length, parts * width) into `parts` tensors (batch, heads, length, head_dim)."""
    return packed.unflatten(-1, (parts, -1, head_dim)).permute(2, 0, 3, 1, 4).unbind(0)


class SpatialAttention(Block):
    """Self-attention over the pixels of a feature map, with a residual connection (ADM; GLIDE for the context).

    Context tokens, if `context_dim` is not 0, add keys and values in front of the pixels' own.
    """

    def __init__(self, channels: int, head_dim: int, context_dim: int = 0) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm = GroupNorm32(channels)
        self.qkv = Linear(channels, 3 * channels)
        self.context_kv = Linear(context_dim, 2 * channels) if context_dim else None
        self.out = zeroed(Linear(channels, channels))  # The block starts as the identity.

    def forward(self, x: Images, context: Context | None = None, context_mask: TokenMask | None = None) -> Images:
        """Attend; `context_mask` is True for real context tokens. Needs `context` exactly if built with one."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (N, H W, C)
        q, k, v = split_heads(self.qkv(pixels), 3, self.head_dim)
        mask = None
        if self.context_kv is not None:
            assert context is not None, "built with context_dim but called without context"
            context_k, context_v = split_heads(self.context_kv(context), 2, self.head_dim)
            k, v = torch.cat([context_k, k], dim=2), torch.cat([context_v, v], dim=2)
            if context_mask is not None:
                mask = F.pad(context_mask, (0, pixels.shape[1]), value=True)[:, None, None]  # (N, 1, 1, keys)
        mixed = self.out(attention(q, k, v, mask).transpose(1, 2).flatten(2))  # (N, H W, C)
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])
