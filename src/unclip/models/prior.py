"""The prior network: predict from a noisy image embedding and text features; noise schedules are diffusion's part."""

import torch
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from unclip.config import Config
from unclip.diffusion import PredictionType, ScheduleName
from unclip.errors import ConfigError, InputError
from unclip.models.common import Depth, Standardized, last_x0
from unclip.nn import LayerNorm32, Linear, TimeEmbedding, TransformerBlock
from unclip.shapes import Hidden, Timesteps, TokenMask

TextCache = Float[Tensor, "batch depth 2 heads keys head_dim"]

# Tokens of the noisy embedding: time, noised image embedding, learned query.
_NUM_NOISED = 3


class PriorConfig(Config):
    """Shape of a prior, and the diffusion process that it is trained in."""

    embedding_dim: PositiveInt
    """Size of the CLIP image embedding."""
    text_embedding_dim: PositiveInt | None = None
    """Size of the CLIP text embedding; None = `embedding_dim`."""
    text_dim: PositiveInt | None = None
    """Width of the CLIP text tokens; None = `embedding_dim`."""
    num_text_tokens: NonNegativeInt
    """Longest text, in tokens; 0 = no text tokens, the text embedding alone."""
    width: PositiveInt
    """Channels of a token."""
    depth: Depth
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads; they divide `width`."""
    ff_mult: PositiveInt = 4
    """Hidden width of the MLPs, in multiples of `width`."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability of the residual branches."""
    self_conditioning: bool = False
    """Whether the network reads its last prediction of x0, as one more token (Analog Bits, arXiv 2208.04202)."""
    prediction_type: PredictionType = "x0"
    """What the output is."""
    schedule: ScheduleName = "cosine"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""

    @property
    def num_noised_tokens(self) -> int:
        """Number of tokens behind those of the text."""
        return _NUM_NOISED + self.self_conditioning

    @model_validator(mode="after")
    def _check(self) -> "PriorConfig":
        if self.width % self.num_heads or self.width % 2:
            raise ConfigError(f"width={self.width} is not divisible by 2 and by num_heads={self.num_heads}.")
        return self


class Prior(Standardized):
    """unCLIP's diffusion prior (paper, section 2.2): a causal transformer whose last token's output is the prediction.

    Sequence: text tokens, text embedding, time, noised image embedding, the last x0 if `self_conditioning`, learned
    query. Embeddings are standardised by the buffers `embedding_mean` and `embedding_std`, which are measured on data
    and start as the identity.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config.embedding_dim)
        self.config = config
        if config.num_text_tokens:
            self.text_tokens = Linear(config.text_dim or config.embedding_dim, config.width)
        self.text_embedding = Linear(config.text_embedding_dim or config.embedding_dim, config.width)
        self.time_embedding = TimeEmbedding(config.width, config.width)
        self.noised_embedding = Linear(config.embedding_dim, config.width)
        if config.self_conditioning:
            self.own_x0 = Linear(config.embedding_dim, config.width)
        self.query = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(
            torch.empty(1, config.num_text_tokens + 1 + config.num_noised_tokens, config.width)
        )
        nn.init.normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                config.width,
                config.num_heads,
                depth=config.depth,
                ff_dim=config.ff_mult * config.width,
                dropout=config.dropout,
            )
            for _ in range(config.depth)
        )
        self.norm_out = LayerNorm32(config.width)
        self.out = Linear(config.width, config.embedding_dim)

    def forward(
        self,
        x_t: Float[Tensor, "batch dim"],
        timestep: Timesteps,
        text_embedding: Float[Tensor, "batch text_dim"] | None = None,
        text_hidden: Hidden | None = None,
        text_mask: TokenMask | None = None,
        cache: TextCache | None = None,
        self_condition: Float[Tensor, "batch dim"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Predict from standardised noisy embeddings.

        `text_mask` is True for real tokens (None: all are). Texts may be cut to the longest of the batch: padding never
        changes the result. `cache`, from `text_cache`, replaces `text_embedding` and `text_hidden` but not `text_mask`.
        `self_condition` is the last x0, standardised (None: zeros). Raises `InputError` for text that is missing or too
        long, and for inputs that the config turns off.
        """
        tail = self._noised_tokens(x_t, timestep, last_x0(self.config.self_conditioning, self_condition, x_t))
        if cache is None:
            x = torch.cat([self._text(text_embedding, text_hidden), tail], dim=1)  # (N, L + 1 + noised, width)
            mask = _visible(text_mask, x.shape[1], x.shape[1], x)
        else:
            x = tail  # (N, noised, width)
            mask = _visible(text_mask, x.shape[1], cache.shape[4] + x.shape[1], x)
        for index, block in enumerate(self.blocks):
            x, _ = block(x, mask, None if cache is None else cache[:, index])
        prediction: Tensor = self.out(self.norm_out(x[:, -1]))
        return prediction

    def text_cache(
        self,
        text_embedding: Float[Tensor, "batch text_dim"],
        text_hidden: Hidden | None = None,
        text_mask: TokenMask | None = None,
    ) -> TextCache:
        """Compute keys and values of the text, once per prompt: causality makes them the same at every time step.

        One tensor, batch first, so that it can be indexed and concatenated like any other conditioning.
        """
        x = self._text(text_embedding, text_hidden)
        mask = _visible(text_mask, x.shape[1], x.shape[1], x)
        cached = []
        for block in self.blocks:
            x, keys_values = block(x, mask)
            cached.append(keys_values)
        return torch.stack(cached, dim=1)

    def _text(self, text_embedding: Tensor | None, text_hidden: Tensor | None) -> Tensor:
        if text_embedding is None:
            raise InputError("this prior needs text_embedding, or a cache made from it.")
        pooled = self.text_embedding(text_embedding.to(self.out.weight.dtype))[:, None]
        tokens = [pooled] if text_hidden is None else [self._tokens(text_hidden), pooled]
        if self.config.num_text_tokens and text_hidden is None:
            raise InputError(f"this prior needs text_hidden, up to {self.config.num_text_tokens} tokens.")
        x = torch.cat(tokens, dim=1)
        # A short text leaves out the positions between its last token and the text embedding.
        length, longest = x.shape[1] - 1, self.config.num_text_tokens
        return x + torch.cat([self.positions[:, :length], self.positions[:, longest : longest + 1]], dim=1)

    def _tokens(self, text_hidden: Tensor) -> Tensor:
        if not self.config.num_text_tokens:
            raise InputError("this prior takes no text tokens (num_text_tokens=0); leave text_hidden out.")
        if text_hidden.shape[1] > self.config.num_text_tokens:
            raise InputError(
                f"text_hidden has {text_hidden.shape[1]} tokens; this prior takes {self.config.num_text_tokens}."
            )
        tokens: Tensor = self.text_tokens(text_hidden.to(self.out.weight.dtype))
        return tokens

    def _noised_tokens(self, x_t: Tensor, timestep: Tensor, x0: Tensor | None) -> Tensor:
        dtype, num_tokens = self.out.weight.dtype, self.config.num_noised_tokens
        tokens = [self.time_embedding(timestep), self.noised_embedding(x_t.to(dtype))]
        tokens += [] if x0 is None else [self.own_x0(x0.to(dtype))]
        query = self.query.expand(len(x_t), -1, -1)
        return torch.cat([*(token[:, None] for token in tokens), query], dim=1) + self.positions[:, -num_tokens:]


def _visible(
    text_mask: Tensor | None, num_queries: int, num_keys: int, like: Tensor
) -> Bool[Tensor, "n 1 queries keys"]:
    """Return where a query may look: causal, no padding; each token sees itself, so no row of the softmax is empty."""
    offset = num_keys - num_queries
    causal = torch.ones(num_queries, num_keys, dtype=torch.bool, device=like.device).tril(offset)
    if text_mask is None:
        return causal[None, None]
    real = nn.functional.pad(text_mask, (0, num_keys - text_mask.shape[1]), value=True)
    return (causal & (real[:, None] | causal.triu(offset)))[:, None]
