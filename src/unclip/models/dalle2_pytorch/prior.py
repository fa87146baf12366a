"""DALLE2-pytorch's causal transformer, with its parameter names. Knows no tokens' meaning."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.config import Config
from unclip.errors import ConfigError, InputError
from unclip.models.choices import Depth, PredictionType, ScheduleName
from unclip.models.dalle2_pytorch.attention import COSINE_SCALE, Attention
from unclip.models.dalle2_pytorch.layers import GainNorm, Sinusoid
from unclip.nn import Block, Linear
from unclip.shapes import Hidden, Timesteps, TokenMask

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


class Dalle2PriorConfig(Config):
    """Shape of a prior of DALLE2-pytorch, and the diffusion that its output belongs to."""

    architecture: Literal["dalle2-pytorch-prior"] = "dalle2-pytorch-prior"
    """Tells these weights from those of our own prior."""
    embedding_dim: PositiveInt
    """Size of CLIP's image and text embeddings, of its text tokens, and of a token here."""
    num_text_tokens: PositiveInt
    """Tokens that a text takes: shorter ones are filled up with learned padding, one vector a place."""
    reads_text_hidden: bool = True
    """Whether it was trained on text tokens; if not, all of them are padding."""
    depth: Depth
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads; they share their keys and values."""
    head_dim: PositiveInt = 64
    """Channels of an attention head."""
    ff_mult: PositiveInt = 4
    """Hidden width of the gated MLPs, in multiples of `embedding_dim`."""
    num_embedded_timesteps: PositiveInt | None = None
    """Length of the table of learned time embeddings; None = a sinusoid and an MLP."""
    num_text_embedding_tokens: PositiveInt = 1
    """Tokens that the text embedding becomes."""
    num_time_tokens: PositiveInt = 1
    """Tokens that the time becomes."""
    num_noised_tokens: PositiveInt = 1
    """Tokens that the noised image embedding becomes."""
    norm_in: bool = False
    """Whether tokens are normalised before the first block."""
    norm_ff: bool = False
    """Whether the MLPs normalise their hidden layer (their `normformer`)."""
    norm_out: bool = True
    """Whether tokens are normalised after the last block."""
    project_out: bool = True
    """Whether a linear layer follows that."""
    rotary: bool = True
    """Whether queries and keys are rotated, besides the position biases."""
    attention_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability of attention weights."""
    ff_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability inside the MLPs."""
    self_conditioning: bool = False
    """Whether it reads its own last prediction of x0."""
    prediction_type: PredictionType = "x0"
    """What the output is."""
    schedule: ScheduleName = "cosine"
    """Noise schedule that it is trained with."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    cosine_attention: bool = True
    """Whether logits are 16 times cosines, as since version 1.4.3, or dot products over sqrt(head_dim)."""
    position_bias_scale: PositiveFloat = 1.0
    """Factor of the position biases; 128 in v1.1, which multiplied logits by that after the biases were added."""
    learned_nulls: bool = True
    """Whether it has learned vectors for an absent text and noised embedding, as since version 1.9."""
    null_hides_x_t: bool = True
    """Whether an absent text hides the noised embedding too, as in their guidance; else it hides the text alone."""
    truncated_time: bool = False
    """Whether the sinusoid of the time is rounded towards zero, as v1.1 did by mistake."""

    @model_validator(mode="after")
    def _check(self) -> "Dalle2PriorConfig":
        if self.embedding_dim % 2 or self.embedding_dim < 4:
            raise ConfigError(f"embedding_dim={self.embedding_dim} is not an even number from 4 on.")
        if self.num_embedded_timesteps is not None and self.num_embedded_timesteps < self.num_timesteps:
            raise ConfigError(
                f"num_embedded_timesteps={self.num_embedded_timesteps} is below num_timesteps={self.num_timesteps}; "
                "the later ones would have no embedding."
            )
        return self


class Dalle2Prior(nn.Module):
    """The DiffusionPriorNetwork of DALLE2-pytorch, with its parameter names.

    Sequence: text tokens with learned padding, text embedding, time, noised image embedding, its own last prediction if
    `self_conditioning`, learned query; the output is the query's. It works on unit embeddings times a constant, which
    is what the buffers say: `embedding_mean` 0 and `embedding_std` 1 / sqrt(embedding_dim).
    """

    embedding_mean: Tensor
    embedding_std: Tensor

    def __init__(self, config: Dalle2PriorConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embedding_dim
        self.register_buffer("embedding_mean", torch.zeros(dim))
        self.register_buffer("embedding_std", torch.full((dim,), dim**-0.5))
        self.to_text_embeds = _split(dim, config.num_text_embedding_tokens)
        self.to_image_embeds = _split(dim, config.num_noised_tokens)
        self.to_time_embeds = _time_tokens(config)
        self.learned_query = nn.Parameter(torch.randn(dim))
        self.null_text_encodings = nn.Parameter(torch.randn(1, config.num_text_tokens, dim))
        if config.learned_nulls:
            self.null_text_embeds = nn.Parameter(torch.randn(1, config.num_text_embedding_tokens, dim))
            self.null_image_embed = nn.Parameter(torch.randn(1, dim))
        self.causal_transformer = CausalTransformer(
            dim,
            config.depth,
            config.num_heads,
            config.head_dim,
            ff_mult=config.ff_mult,
            norm_in=config.norm_in,
            norm_ff=config.norm_ff,
            norm_out=config.norm_out,
            project_out=config.project_out,
            rotary=config.rotary,
            logit_scale=COSINE_SCALE if config.cosine_attention else config.head_dim**-0.5,
            cosine=config.cosine_attention,
            position_bias_scale=config.position_bias_scale,
            attention_dropout=config.attention_dropout,
            ff_dropout=config.ff_dropout,
        )

    def forward(
        self,
        x_t: Float[Tensor, "batch dim"],
        timestep: Timesteps,
        text_embedding: Float[Tensor, "batch dim"],
        text_hidden: Hidden | None = None,
        text_mask: TokenMask | None = None,
        text_present: Bool[Tensor, " batch"] | None = None,
        self_condition: Float[Tensor, "batch dim"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Predict from standardised noisy embeddings.

        `text_embedding` is a unit vector. `text_mask` is True for real tokens (None: those that are not all zero).
        `text_present` is False where learned vectors replace the text, the unconditional branch of guidance (None: all
        are present). `self_condition` is the last x0 (None: zeros). Raises `InputError` for text that is too long, or
        that the model has no use for, and for an absent one that it never learned.
        """
        dtype, (batch, dim) = self.learned_query.dtype, x_t.shape
        text, tokens = self._text(text_embedding.to(dtype)), self._tokens(text_hidden, text_mask, batch)
        noised = self.to_image_embeds(x_t.to(dtype)).unflatten(-1, (-1, dim))
        if text_present is not None:
            text, tokens, noised = self._hide(text_present, text, tokens, noised)
        x = torch.cat([tokens, text, self._time(timestep), noised, *self._last(self_condition, x_t)], dim=1)
        prediction: Tensor = self.causal_transformer(x)[:, -1]
        return prediction

    def standardize(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """CLIP's image embedding, a unit vector, to the numbers that are diffused."""
        return (embedding.float() - self.embedding_mean.float()) / self.embedding_std.float()

    def unstandardize(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The inverse of `standardize`."""
        return embedding.float() * self.embedding_std.float() + self.embedding_mean.float()

    def _text(self, text_embedding: Tensor) -> Tensor:
        tokens: Tensor = self.to_text_embeds(text_embedding).unflatten(-1, (-1, self.config.embedding_dim))
        return tokens

    def _time(self, timestep: Tensor) -> Tensor:
        longest = self.config.num_embedded_timesteps
        if longest is None:
            time = self.to_time_embeds(timestep)
        else:  # A table knows whole steps; samplers may ask for times between two.
            time = self.to_time_embeds(timestep.round().long().clamp(0, longest - 1))
        tokens: Tensor = time.unflatten(-1, (-1, self.config.embedding_dim))
        return tokens

    def _last(self, self_condition: Tensor | None, x_t: Tensor) -> list[Tensor]:
        query = self.learned_query.expand(len(x_t), 1, -1)
        if not self.config.self_conditioning:
            if self_condition is not None:
                raise InputError("this prior does not read its own predictions; leave self_condition out.")
            return [query]
        last = torch.zeros_like(x_t) if self_condition is None else self_condition
        return [last.to(query.dtype)[:, None], query]

    def _tokens(self, text_hidden: Tensor | None, text_mask: Tensor | None, batch: int) -> Tensor:
        padding, length = self.null_text_encodings.expand(batch, -1, -1), self.config.num_text_tokens
        if text_hidden is None:
            if self.config.reads_text_hidden:
                raise InputError(f"this prior needs text_hidden, up to {length} tokens.")
            return padding
        self._check_length(text_hidden.shape[1])
        real = text_hidden.ne(0).any(dim=-1)
        if text_mask is not None:
            real = real & text_mask
        missing = length - text_hidden.shape[1]
        hidden = nn.functional.pad(text_hidden.to(padding.dtype), (0, 0, 0, missing))
        return torch.where(nn.functional.pad(real, (0, missing))[:, :, None], hidden, padding)

    def _check_length(self, length: int) -> None:
        if not self.config.reads_text_hidden:
            raise InputError("this prior was trained without text tokens; leave text_hidden out.")
        if length > self.config.num_text_tokens:
            raise InputError(f"text_hidden has {length} tokens; this prior takes {self.config.num_text_tokens}.")

    def _hide(self, present: Tensor, text: Tensor, tokens: Tensor, noised: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.config.learned_nulls:
            raise InputError(
                "this prior never saw a text left out (DALLE2-pytorch before 1.9); give it guidance_scale=1."
            )
        keep = present[:, None, None]
        text = torch.where(keep, text, self.null_text_embeds)
        tokens = torch.where(keep, tokens, self.null_text_encodings)
        if self.config.null_hides_x_t:
            noised = torch.where(keep, noised, self.null_image_embed)
        return text, tokens, noised


def _split(dim: int, num_tokens: int) -> nn.Sequential:
    return nn.Sequential(Linear(dim, dim * num_tokens) if num_tokens > 1 else nn.Identity())


def _time_tokens(config: Dalle2PriorConfig) -> nn.Sequential:
    dim, out_dim = config.embedding_dim, config.embedding_dim * config.num_time_tokens
    if config.num_embedded_timesteps is not None:
        return nn.Sequential(nn.Embedding(config.num_embedded_timesteps, out_dim))
    return nn.Sequential(nn.Sequential(Sinusoid(dim, truncated=config.truncated_time), _TimeMlp(dim, out_dim)))


class _TimeMlp(nn.Module):
    """Two layers of twice the output's width with SiLU, then a third."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(Linear(in_dim, 2 * out_dim), nn.SiLU()),
            nn.Sequential(Linear(2 * out_dim, 2 * out_dim), nn.SiLU()),
            Linear(2 * out_dim, out_dim),
        )

    def forward(self, x: Float[Tensor, "batch in_dim"]) -> Float[Tensor, "batch out_dim"]:
        """Transform, in the weights' type."""
        out: Tensor = self.net(x.to(next(self.parameters()).dtype))
        return out
