"""Kandinsky 2.1's text encoder: XLM-RoBERTa (arXiv 1911.02116) with a projection to CLIP's space."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from jaxtyping import Bool
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.clip.model import TextFeatures
from unclip.clip.tokenizer import TokenBatch, encode_prompts, read_backend
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError, InputError, did_you_mean
from unclip.files import atomic_write
from unclip.nn import LayerNorm32, Linear, attention, split_heads
from unclip.shapes import Hidden, TokenIds, TokenMask


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
    """Rows of the table of positions; the first `pad_token` + 1 are no positions of tokens."""
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
    """norm(x + attention(x)), then norm(x + MLP(x)), as in the first Transformer."""

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
        """Transform tokens; `mask` is True for those that are attended to."""
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
        """Encode token ids, in float32; `mask` is True for tokens that are not padding, at least one in a row.

        They are computed in `dtype`; None is that of the weights. Padding has hidden states too, which depend on the
        text: Kandinsky 2.1 was trained to attend to them.
        """
        pad = self.config.pad_token
        is_token = ids != pad
        positions = is_token.cumsum(dim=1) * is_token + pad
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
    """Return the text encoder "tiny" (for tests) or "kandinsky-2.1" (560M parameters); else `InputError`."""
    if name not in _PRESETS:
        raise InputError(f"there is no multilingual preset {name!r}; {did_you_mean(name, _PRESETS)}")
    return _PRESETS[name]


START, END, PAD = "<s>", "</s>", "<pad>"


class MultilingualTokenizer:
    """Text to token ids by XLM-RoBERTa's SentencePiece vocabulary."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wrap a `tokenizers.Tokenizer`; raises `CheckpointError` when it lacks XLM-RoBERTa's special tokens."""
        start, end, pad = (backend.token_to_id(token) for token in (START, END, PAD))
        if start is None or end is None or pad is None:
            raise CheckpointError(f"this is not XLM-RoBERTa's tokenizer: {START}, {END} or {PAD} is missing.")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._start, self._end, self.pad_token = start, end, pad
        self.vocab_size = backend.get_vocab_size()

    @classmethod
    def load(cls, path: str | Path) -> "MultilingualTokenizer":
        """Read a `tokenizer.json`; raises `CheckpointError` when it is missing or is not one."""
        return cls(read_backend(path))

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` atomically."""
        atomic_write(path, self._backend.to_str(pretty=True))

    def encode(self, prompts: Sequence[str], context_length: int) -> TokenBatch:
        """Encode prompts as ids, each cut to `context_length` tokens with start and end, then padded."""
        return encode_prompts(self._backend, prompts, context_length, self._start, self._end, self.pad_token)


class MultilingualEncoder:
    """A `MultilingualClip` with its tokenizer, without gradients. `compute_dtype` is as for `TextImageEncoder`."""

    def __init__(
        self, network: MultilingualClip, tokenizer: MultilingualTokenizer, compute_dtype: torch.dtype | None = None
    ) -> None:
        """Join both; raises `ConfigError` when the tokenizer's ids do not fit the network's vocabulary."""
        config = network.config
        if (tokenizer.vocab_size, tokenizer.pad_token) != (config.vocab_size, config.pad_token):
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and pads with {tokenizer.pad_token}, but the text "
                f"encoder was made for {config.vocab_size} and {config.pad_token}; use the one it was trained with."
            )
        self.network = network
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.type_embedding.device

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "MultilingualEncoder":
        """Move the weights, and change their number format if one is given."""
        self.network.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> TextFeatures:
        """Encode prompts, padded to the context length and cut where they are longer (see `cut_text`)."""
        ids, mask, _ = self._tokenize(prompts)
        return self.network(ids.to(self.device), mask.to(self.device), self.compute_dtype)

    def cut_text(self, prompts: Sequence[str]) -> list[str]:
        """Return the end of each prompt that does not fit into the context; "" if all of it fits."""
        return self._tokenize(prompts).cut

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt is read as, its start and end included."""
        return [int(count) for count in self._tokenize(prompts).mask.sum(dim=1)]

    def _tokenize(self, prompts: Sequence[str]) -> TokenBatch:
        return self.tokenizer.encode(prompts, self.network.config.context_length)
