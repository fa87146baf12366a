"""The decoder network: predict from a noisy picture, a CLIP image embedding and, if configured, text."""

import torch
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from unclip.config import Config
from unclip.diffusion import PredictionType, ScheduleName
from unclip.errors import ConfigError, InputError
from unclip.models.common import Depth, Standardized, embed_level, last_x0
from unclip.models.unet import UNet, UNetConfig, check_size, trunk_config
from unclip.nn import LayerNorm32, Linear, Norm, TimeEmbedding, TransformerBlock
from unclip.shapes import Hidden, Timesteps, TokenMask


class TextTransformerConfig(Config):
    """Shape of a decoder's text transformer, whose width is that of the context tokens."""

    num_text_tokens: PositiveInt
    """Longest text, in tokens."""
    depth: PositiveInt
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads; they divide the width."""


class DecoderConfig(Config):
    """Shape of a decoder, and the diffusion process that it is trained in."""

    image_size: PositiveInt
    """Side in pixels of the training pictures; other sizes and shapes work if the levels divide them."""
    embedding_dim: PositiveInt
    """Size of the CLIP image (and text) embedding."""
    text_dim: NonNegativeInt = 0
    """Width of the CLIP text tokens; 0 = no text at all."""
    text_transformer: TextTransformerConfig | None = None
    """Transformer over the text tokens before they become context, as in the paper; None = none (Karlo)."""
    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first."""
    num_res_blocks: Depth
    """Residual blocks per level on the way down."""
    attention_resolutions: tuple[PositiveInt, ...]
    """Side, in grid cells at `image_size`, of the levels that have attention; `patch_size` divides the finest."""
    head_dim: PositiveInt = 64
    """Channels of an attention head."""
    num_image_tokens: PositiveInt = 4
    """Context tokens projected from the image embedding."""
    context_dim: PositiveInt
    """Width of the context tokens."""
    patch_size: PositiveInt = 1
    """Side of the pixel blocks that become channels: the finest grid is image_size / patch_size."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability inside residual blocks."""
    norm: Norm = "group"
    """Normalisation over groups of channels of the whole picture, or over the channels of each pixel."""
    noise_conditioning: bool = False
    """Whether the network is conditioned on how much noise the image embedding holds."""
    self_conditioning: bool = False
    """Whether the network reads its last prediction of x0 in further input channels (Analog Bits, arXiv 2208.04202)."""
    learned_variance: bool = True
    """Whether the network also outputs the variance, as a fraction in [-1, 1] per pixel, in further channels."""
    prediction_type: PredictionType = "eps"
    """What the first channels of the output are."""
    schedule: ScheduleName = "cosine"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    in_channels: PositiveInt = 3
    """Channels of a picture, or of latents."""

    @model_validator(mode="after")
    def _check(self) -> "DecoderConfig":
        self.unet().check(self.image_size)
        if self.text_transformer is None:
            return self
        if not self.text_dim:
            raise ConfigError("text_transformer reads text tokens, but text_dim=0; give the width of CLIP's.")
        if self.context_dim % (num_heads := self.text_transformer.num_heads):
            raise ConfigError(
                f"text_transformer: num_heads={num_heads} does not divide context_dim={self.context_dim}."
            )
        return self

    @property
    def size_multiple(self) -> int:
        """Divisor of the height and width of a picture."""
        return self.unet().size_multiple

    def unet(self) -> UNetConfig:
        """Return the trunk's config. Raises `ConfigError` if no level has one of the `attention_resolutions`."""
        check_size("image_size", self.image_size, self.patch_size, len(self.channel_mult), ConfigError)
        grids = [self.image_size // self.patch_size // 2**level for level in range(len(self.channel_mult))]
        for resolution in self.attention_resolutions:
            if resolution not in grids:
                allowed = ", ".join(map(str, grids))
                raise ConfigError(f"attention_resolutions has {resolution}, but the U-Net's grids are {allowed}.")
        fields = {
            "in_channels": self.in_channels * (2 if self.self_conditioning else 1),
            "out_channels": self.in_channels * (2 if self.learned_variance else 1),
            "attention_levels": [level for level, grid in enumerate(grids) if grid in self.attention_resolutions],
            "conditioning": "adaptive",
        }
        return trunk_config(self, fields)


class Decoder(Standardized):
    """unCLIP's decoder (paper, section 2.1): ADM U-Net conditioned on an image embedding and, optionally, on text.

    The image embedding is standardised by the buffers `embedding_mean` and `embedding_std`, which start as the
    identity; then it is added to the time embedding and projected to context tokens. Where it is absent, for guidance,
    a learned vector replaces it. Text tokens are further context; after a text transformer, the last one is also added
    to the time embedding (GLIDE), as the CLIP text embedding always is.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config.embedding_dim)
        self.config = config
        trunk = config.unet()
        self.null_image_embedding = nn.Parameter(torch.zeros(config.embedding_dim))
        self.time_embedding = TimeEmbedding(config.base_channels, trunk.embedding_dim)
        if config.noise_conditioning:
            self.augmentation_embedding = TimeEmbedding(config.base_channels, trunk.embedding_dim)
        self.image_embedding = Linear(config.embedding_dim, trunk.embedding_dim)
        self.image_tokens = Linear(config.embedding_dim, config.num_image_tokens * config.context_dim)
        if config.text_dim:
            self.text_embedding = Linear(config.embedding_dim, trunk.embedding_dim)
            self.text_tokens = Linear(config.text_dim, config.context_dim)
            self.text_norm = LayerNorm32(config.context_dim)
        if config.text_transformer is not None:
            self.text_transformer = TextTransformer(config.text_transformer, config.context_dim)
            self.text_state = Linear(config.context_dim, trunk.embedding_dim)
        self.unet = UNet(trunk)

    def forward(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        timestep: Timesteps,
        image_embedding: Float[Tensor, "batch dim"],
        image_present: Bool[Tensor, " batch"] | None = None,
        text_embedding: Float[Tensor, "batch dim"] | None = None,
        text_hidden: Float[Tensor, "batch length text_dim"] | None = None,
        text_mask: TokenMask | None = None,
        self_condition: Float[Tensor, "batch channels height width"] | None = None,
        augmentation: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Predict from a noisy picture; the output has twice the channels if the variance is learned.

        `image_present` is False where the learned null embedding replaces that of the image (None: all are present).
        `text_mask` is True for real tokens. `self_condition` is the last x0 (None: zeros). `augmentation` in
        [0, 1] is the deviation of the noise on the standardised image embedding (None: none). Raises `InputError` for
        sizes that the levels do not divide, for missing text, and for inputs that the config turns off.
        """
        check_text(self.config.text_dim, text_embedding, text_hidden)
        embedding = self._image(image_embedding, image_present)
        emb = self.time_embedding(timestep) + self.image_embedding(embedding)
        if self.config.noise_conditioning:
            emb = emb + embed_level(self.augmentation_embedding, augmentation, timestep)
        elif augmentation is not None:
            raise InputError("this decoder reads no augmentation (noise_conditioning=False); leave it out.")
        context = self.image_tokens(embedding).unflatten(1, (self.config.num_image_tokens, -1))
        mask = None
        if text_embedding is not None and text_hidden is not None:
            added, tokens = self._text(text_embedding, text_hidden, text_mask)
            emb, context = emb + added, torch.cat([context, tokens], dim=1)
            if text_mask is not None:
                mask = nn.functional.pad(text_mask, (self.config.num_image_tokens, 0), value=True)
        x0 = last_x0(self.config.self_conditioning, self_condition, x_t)
        picture = x_t if x0 is None else torch.cat([x_t, x0.to(x_t.dtype)], dim=1)
        prediction: Tensor = self.unet(picture, emb, context, mask)
        return prediction

    def _image(self, image_embedding: Tensor, image_present: Tensor | None) -> Tensor:
        embedding = self.standardize(image_embedding).to(self.null_image_embedding.dtype)
        if image_present is None:
            return embedding
        return torch.where(image_present[:, None], embedding, self.null_image_embedding)

    def _text(self, embedding: Tensor, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        dtype = self.text_tokens.weight.dtype
        added, tokens = self.text_embedding(embedding.to(dtype)), self.text_tokens(hidden.to(dtype))
        if self.config.text_transformer is None:
            return added, self.text_norm(tokens)
        tokens = self.text_norm(self.text_transformer(tokens, mask))
        return added + self.text_state(last_token(tokens, mask)), tokens


class TextTransformer(nn.Module):
    """GLIDE's text encoder (arXiv 2112.10741, section 3): learned positions and blocks that look both ways.

    GLIDE's, and so the paper's, embeds token ids of its own vocabulary. This one reads CLIP's hidden states, projected,
    so that one tokenizer serves all stages. The caller normalises the output.
    """

    def __init__(self, config: TextTransformerConfig, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(config.num_text_tokens, width))
        nn.init.normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.num_heads, depth=config.depth) for _ in range(config.depth)
        )

    def forward(self, x: Hidden, mask: TokenMask | None = None) -> Hidden:
        """Transform tokens; `mask` is True for real ones, at least one per text, and padding changes nothing.

        Raises `InputError` for texts that are too long.
        """
        length, longest = x.shape[1], len(self.positions)
        if length > longest:
            raise InputError(f"text_hidden has {length} tokens; this decoder takes {longest}.")
        visible = None if mask is None else mask[:, None, None].expand(-1, 1, length, length)  # (N, 1, queries, keys)
        x = x + self.positions[:length]
        for block in self.blocks:
            x, _ = block(x, visible)
        return x


def last_token(x: Hidden, mask: TokenMask | None = None) -> Float[Tensor, "batch width"]:
    """Return the last real token of each text (None: all are real)."""
    if mask is None:
        return x[:, -1]
    places = torch.arange(mask.shape[1], device=x.device)
    return x[torch.arange(len(x), device=x.device), (places * mask).amax(dim=1)]


def check_text(text_dim: int, text_embedding: Tensor | None, text_hidden: Tensor | None) -> None:
    """Raise `InputError` for missing text, and for text where `text_dim` is 0."""
    is_present = (text_embedding is not None, text_hidden is not None)
    if text_dim and not all(is_present):
        raise InputError('this decoder needs text_embedding and text_hidden; encode "" for no text.')
    if not text_dim and any(is_present):
        raise InputError("this decoder takes no text (text_dim=0); pass neither text_embedding nor text_hidden.")
