"""Kandinsky 2.1's text encoder: XLM-RoBERTa (arXiv 1911.02116) made to speak for CLIP. Knows token ids, not text."""

import torch
from jaxtyping import Bool
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.clip.model import TextFeatures
from unclip.config import Config
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.nn import LayerNorm32, Linear, attention, split_heads
from unclip.shapes import Hidden, TokenIds, TokenMask

__all__ = ["MultilingualClip", "MultilingualConfig", "multilingual_preset"]


class MultilingualConfig(Config):
    """Architecture of a multilingual text encoder."""

    embedding_dim: PositiveInt
    """Size of the text embedding."""
    width: PositiveInt
    """Channels of a token."""
    depth: int = Field(ge=1, le=1000)
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads; they divide `width`."""
    ff_dim: PositiveInt
    """Hidden width of the MLPs."""
    vocab_size: PositiveInt
    """Number of tokens."""
    pad_token: NonNegativeInt = 1
    """Id of the padding token; positions count from the number behind it."""
    num_positions: PositiveInt
    """Rows of the table of positions, of which the first `pad_token` + 1 stand for none."""
    context_length: int = Field(default=77, ge=3)
    """Tokens of a prompt, start and end included."""

    @model_validator(mode="after")
    def _check(self) -> "MultilingualConfig":
        if self.width % self.num_heads:
            raise ConfigError(f"width={self.width} is not divisible by num_heads={self.num_heads}.")
        room = self.num_positions - self.pad_token - 1
        if self.context_length > room:
            raise ConfigError(f"context_length={self.context_length} exceeds the {room} positions of the table.")
        return self


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + MLP(x)), as the first Transformer had it."""

    def __init__(self, width: int, num_heads: int, ff_dim: int) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm_1 = LayerNorm32(width)
        self.ff_in = Linear(width, ff_dim)
        self.ff_out = Linear(ff_dim, width)
        self.norm_2 = LayerNorm32(width)

    def forward(self, x: Hidden, mask: Bool[Tensor, "batch 1 1 length"]) -> Hidden:
        """Transform tokens; `mask` is True for those that may be looked at."""
        q, k, v = split_heads(self.qkv(x), 3, self.head_dim)
        x = self.norm_1(x + self.out(attention(q, k, v, mask).transpose(1, 2).flatten(2)))
        return self.norm_2(x + self.ff_out(F.gelu(self.ff_in(x))))


class MultilingualClip(nn.Module):
    """Token ids to features: the embedding is a projection of the mean over the tokens that are not padding."""

    def __init__(self, config: MultilingualConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.num_positions, config.width)
        self.type_embedding = nn.Parameter(torch.zeros(config.width))
        self.norm = LayerNorm32(config.width)
        self.blocks = nn.ModuleList(
            PostNormBlock(config.width, config.num_heads, config.ff_dim) for _ in range(config.depth)
        )
        self.projection = Linear(config.width, config.embedding_dim)

    def forward(self, ids: TokenIds, mask: TokenMask, dtype: torch.dtype | None = None) -> TextFeatures:
        """Features of token ids, float32; `mask` is True for tokens that are not padding, at least one in a row.

        They are computed in `dtype`; None is that of the weights.

        Padding has hidden states too, which depend on the text: Kandinsky 2.1 was trained to look at them.
        """
        pad = self.config.pad_token
        present = ids != pad
        positions = present.cumsum(dim=1) * present + pad
        x = self.token_embedding(ids) + self.position_embedding(positions) + self.type_embedding
        x = self.norm(x if dtype is None else x.to(dtype))
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        real = mask[..., None].to(torch.promote_types(x.dtype, torch.float32))
        mean = (x * real).sum(dim=1) / real.sum(dim=1)
        return TextFeatures(self.projection(mean.to(x.dtype)).float(), x.float(), mask)


_PRESETS = {
    "tiny": MultilingualConfig(
        embedding_dim=32, width=32, depth=2, num_heads=2, ff_dim=64, vocab_size=64, num_positions=32, context_length=16
    ),
    "kandinsky-2.1": MultilingualConfig(
        embedding_dim=768, width=1024, depth=24, num_heads=16, ff_dim=4096, vocab_size=250_002, num_positions=514
    ),
}


def multilingual_preset(name: str) -> MultilingualConfig:
    """The text encoder called "tiny" (for tests) or "kandinsky-2.1" (560M parameters); else `InputError`."""
    if name not in _PRESETS:
        raise InputError(f"there is no multilingual preset {name!r}; {did_you_mean(name, _PRESETS)}")
    return _PRESETS[name]
