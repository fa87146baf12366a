"""Kandinsky's decoders: predict from a noisy latent, a CLIP image embedding and, in 2.1, text."""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from unclip.config import Config
from unclip.diffusion import PredictionType, ScheduleName
from unclip.models.common import Depth
from unclip.models.decoder import check_text
from unclip.models.unet import UNet, UNetConfig, trunk_config
from unclip.nn import LayerNorm32, Linear, TimeEmbedding
from unclip.shapes import Timesteps, TokenMask


class KandinskyDecoderConfig(Config):
    """Shape of a decoder of Kandinsky 2.1 or 2.2, and the diffusion process that it is trained in."""

    image_size: PositiveInt
    """Side of the training latents, not of the pictures; other sizes work if the levels divide them."""
    embedding_dim: PositiveInt
    """Size of the CLIP image embedding."""
    text_dim: NonNegativeInt = 0
    """Width of the text tokens; 0 = no text at all (2.2)."""
    text_embedding_dim: PositiveInt | None = None
    """Size of the text embedding; None = `embedding_dim`."""
    normalize_image: bool
    """Whether layer norms follow the projections of the image embedding (2.2)."""
    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first; each level halves the grid of the one before."""
    num_res_blocks: Depth
    """Residual blocks per level on the way down."""
    attention_levels: tuple[NonNegativeInt, ...]
    """Levels whose blocks are followed by attention."""
    head_dim: PositiveInt = 64
    """Channels of an attention head."""
    num_image_tokens: PositiveInt
    """Context tokens projected from the image embedding: 10 in 2.1, 32 in 2.2."""
    context_dim: PositiveInt
    """Width of the context tokens."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability inside residual blocks."""
    learned_variance: bool = True
    """Whether the network also outputs the variance, as a fraction in [-1, 1] per pixel, in further channels."""
    prediction_type: PredictionType = "eps"
    """What the first channels of the output are."""
    schedule: ScheduleName = "kandinsky"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    in_channels: PositiveInt = 4
    """Channels of a latent."""
    noise_conditioning: ClassVar[bool] = False
    self_conditioning: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check(self) -> "KandinskyDecoderConfig":
        self.unet().check(self.image_size)
        return self

    @property
    def size_multiple(self) -> int:
        """Divisor of the height and width of a latent."""
        return self.unet().size_multiple

    def unet(self) -> UNetConfig:
        """Return the trunk's config."""
        out_channels = self.in_channels * (2 if self.learned_variance else 1)
        return trunk_config(self, {"out_channels": out_channels, "patch_size": 1, "conditioning": "adaptive"})


class KandinskyDecoder(nn.Module):
    """ADM U-Net over the latents of an autoencoder, conditioned on an image embedding and, in 2.1, on text.

    The embeddings are added to the time embedding; context tokens are those of the image, then those of the text. There
    is no learned null: for guidance, pass the embedding of an empty image, which is zero after CLIP's normalisation
    (every pixel has CLIP's mean colour), and in 2.1 the features of "".
    """

    def __init__(self, config: KandinskyDecoderConfig) -> None:
        super().__init__()
        self.config = config
        trunk, context_dim = config.unet(), config.context_dim
        self.time_embedding = TimeEmbedding(config.base_channels, trunk.embedding_dim)
        self.image_embedding = Linear(config.embedding_dim, trunk.embedding_dim)
        self.image_tokens = Linear(config.embedding_dim, config.num_image_tokens * context_dim)
        if config.normalize_image:
            self.image_embedding_norm = LayerNorm32(trunk.embedding_dim)
            self.image_tokens_norm = LayerNorm32(context_dim)
        if config.text_dim:
            self.text_embedding = Linear(config.text_embedding_dim or config.embedding_dim, trunk.embedding_dim)
            self.text_embedding_norm = LayerNorm32(trunk.embedding_dim)
            self.text_tokens = Linear(config.text_dim, context_dim)
        self.unet = UNet(trunk)

    def forward(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        timestep: Timesteps,
        image_embedding: Float[Tensor, "batch dim"],
        text_embedding: Float[Tensor, "batch text_embedding_dim"] | None = None,
        text_hidden: Float[Tensor, "batch length text_dim"] | None = None,
        text_mask: TokenMask | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Predict from a noisy latent; the output has twice the channels if the variance is learned.

        `text_mask` is True for tokens that are attended to. The published weights attend to padding too: for them leave
        it None, and pass all 77 tokens. Raises `InputError` for sizes that the levels do not divide, and for text that
        is missing or that the config turns off.
        """
        check_text(self.config.text_dim, text_embedding, text_hidden)
        dtype = self.image_tokens.weight.dtype
        image, context = self._image(image_embedding.to(dtype))
        emb, mask = self.time_embedding(timestep) + image, None
        if text_embedding is not None and text_hidden is not None:
            emb = emb + self.text_embedding_norm(self.text_embedding(text_embedding.to(dtype)))
            context = torch.cat([context, self.text_tokens(text_hidden.to(dtype))], dim=1)
            if text_mask is not None:
                mask = nn.functional.pad(text_mask, (self.config.num_image_tokens, 0), value=True)
        prediction: Tensor = self.unet(x_t, emb, context, mask)
        return prediction

    def _image(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added to the time embedding, and the context tokens."""
        added = self.image_embedding(embedding)
        tokens = self.image_tokens(embedding).unflatten(1, (self.config.num_image_tokens, -1))
        if self.config.normalize_image:
            return self.image_embedding_norm(added), self.image_tokens_norm(tokens)
        return added, tokens
