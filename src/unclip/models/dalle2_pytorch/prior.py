"""DALLE2-pytorch's prior, with its parameter names: a causal transformer over text, time and noisy embedding."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.errors import InputError
from unclip.models.common import Standardized, last_x0
from unclip.models.dalle2_pytorch.attention import COSINE_SCALE, MultiQueryAttention
from unclip.models.dalle2_pytorch.config import Dalle2PriorConfig
from unclip.models.dalle2_pytorch.layers import GainNorm, Sinusoid
from unclip.nn import Block, Linear
from unclip.shapes import Hidden, Timesteps, TokenMask

_NUM_BUCKETS, _MAX_DISTANCE = 32, 128


class Dalle2Prior(Standardized):
    """The DiffusionPriorNetwork of DALLE2-pytorch, with its parameter names.

    Sequence: text tokens with learned padding, text embedding, time, noised image embedding, the last prediction if
    `self_conditioning`, learned query; the output is the query's. Unit embeddings are multiplied by a constant, which
    the buffers hold: `embedding_mean` 0 and `embedding_std` 1 / sqrt(embedding_dim).
    """

    def __init__(self, config: Dalle2PriorConfig) -> None:
        dim = config.embedding_dim
        super().__init__(dim, std=dim**-0.5)
        self.config = config
        self.to_text_embeds = _split(dim, config.num_text_embedding_tokens)
        self.to_image_embeds = _split(dim, config.num_noised_tokens)
        self.to_time_embeds = _time_tokens(config)
        self.learned_query = nn.Parameter(torch.randn(dim))
        self.null_text_encodings = nn.Parameter(torch.randn(1, config.num_text_tokens, dim))
        if config.learned_nulls:
            self.null_text_embeds = nn.Parameter(torch.randn(1, config.num_text_embedding_tokens, dim))
            self.null_image_embed = nn.Parameter(torch.randn(1, dim))
        self.causal_transformer = CausalTransformer(config)

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
        are present). `self_condition` is the last x0 (None: zeros). Raises `InputError` for text that is too long or
        that the config turns off, and for absent text if the weights have no vectors for it.
        """
        dtype, (batch, dim) = self.learned_query.dtype, x_t.shape
        tokens = self._tokens(text_hidden, text_mask, batch)
        text = self.to_text_embeds(text_embedding.to(dtype)).unflatten(-1, (-1, dim))
        noised = self.to_image_embeds(x_t.to(dtype)).unflatten(-1, (-1, dim))
        if text_present is not None:
            text, tokens, noised = self._hide(text_present, text, tokens, noised)
        x0 = last_x0(self.config.self_conditioning, self_condition, x_t)
        last = [] if x0 is None else [x0.to(dtype)[:, None]]
        query = self.learned_query.expand(batch, 1, -1)
        x = torch.cat([tokens, text, self._time(timestep), noised, *last, query], dim=1)
        prediction: Tensor = self.causal_transformer(x)[:, -1]
        return prediction

    def _time(self, timestep: Tensor) -> Tensor:
        longest = self.config.num_embedded_timesteps
        if longest is None:
            time = self.to_time_embeds(timestep)
        else:  # The table has whole steps; samplers may ask for times between two.
            time = self.to_time_embeds(timestep.round().long().clamp(0, longest - 1))
        tokens: Tensor = time.unflatten(-1, (-1, self.config.embedding_dim))
        return tokens

    def _tokens(self, text_hidden: Tensor | None, text_mask: Tensor | None, batch: int) -> Tensor:
        padding, length = self.null_text_encodings.expand(batch, -1, -1), self.config.num_text_tokens
        if text_hidden is None:
            if self.config.reads_text_hidden:
                raise InputError(f"this prior needs text_hidden, up to {length} tokens.")
            return padding
        if not self.config.reads_text_hidden:
            raise InputError("this prior was trained without text tokens; leave text_hidden out.")
        if (missing := length - text_hidden.shape[1]) < 0:
            raise InputError(f"text_hidden has {text_hidden.shape[1]} tokens; this prior takes {length}.")
        real = text_hidden.ne(0).any(dim=-1)
        if text_mask is not None:
            real = real & text_mask
        hidden = F.pad(text_hidden.to(padding.dtype), (0, 0, 0, missing))
        return torch.where(F.pad(real, (0, missing))[:, :, None], hidden, padding)

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


class CausalTransformer(nn.Module):
    """Attention and a gated MLP, each added to its input, `depth` times; relative position biases, and a final norm."""

    def __init__(self, config: Dalle2PriorConfig) -> None:
        super().__init__()
        width = config.embedding_dim
        self.init_norm = GainNorm(width) if config.norm_in else nn.Identity()
        self.rel_pos_bias = PositionBias(config.num_heads, config.position_bias_scale)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    MultiQueryAttention(
                        width,
                        config.num_heads,
                        config.head_dim,
                        logit_scale=COSINE_SCALE if config.cosine_attention else config.head_dim**-0.5,
                        cosine=config.cosine_attention,
                        rotary_dim=min(32, config.head_dim) if config.rotary else 0,
                        dropout=config.attention_dropout,
                    ),
                    FeedForward(width, config.ff_mult, norm=config.norm_ff, dropout=config.ff_dropout),
                ]
            )
            for _ in range(config.depth)
        )
        self.norm = GainNorm(width, divided=True) if config.norm_out else nn.Identity()
        self.project_out = Linear(width, width, bias=False) if config.project_out else nn.Identity()

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
    """T5's bias by distance, causal and times `scale`; a token and the one before it share a bucket.

    The distance is one too small, because DALLE2-pytorch counts the null key as the first token.
    """

    def __init__(self, num_heads: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.relative_attention_bias = nn.Embedding(_NUM_BUCKETS, num_heads)

    def forward(self, length: int) -> Float[Tensor, "heads length keys"]:
        """Return biases of `length` queries and length + 1 keys; -inf where a query may not look."""
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


class SwiGluGate(nn.Module):
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
            SwiGluGate(),
            GainNorm(mult * width) if norm else nn.Identity(),
            nn.Dropout(dropout),
            Linear(mult * width, width, bias=False),
        )
