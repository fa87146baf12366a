"""The configs of DALLE2-pytorch's prior and U-Net, and the shapes of LAION's released weights."""

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from unclip.config import Config
from unclip.diffusion import PredictionType, ScheduleName
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.models.common import Depth

Downsample = Literal["unshuffle", "conv", "cross_embed"]
Upsample = Literal["pixel_shuffle", "nearest"]


class Dalle2PriorConfig(Config):
    """Shape of a prior of DALLE2-pytorch, and the diffusion process that it is trained in."""

    architecture: Literal["dalle2-pytorch-prior"] = "dalle2-pytorch-prior"
    """Distinguishes these weights from those of `Prior`."""
    embedding_dim: PositiveInt
    """Size of CLIP's image and text embeddings, of its text tokens, and of a token here."""
    num_text_tokens: PositiveInt
    """Tokens of a text: shorter texts are filled up with learned padding, one vector a place."""
    reads_text_hidden: bool = True
    """Whether the prior was trained on text tokens; if not, all of them are padding."""
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
    """Tokens from the text embedding."""
    num_time_tokens: PositiveInt = 1
    """Tokens from the time."""
    num_noised_tokens: PositiveInt = 1
    """Tokens from the noised image embedding."""
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
    """Whether the network reads its last prediction of x0."""
    prediction_type: PredictionType = "x0"
    """What the output is."""
    schedule: ScheduleName = "cosine"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    cosine_attention: bool = True
    """Whether logits are 16 times cosines, as since version 1.4.3, or dot products over sqrt(head_dim)."""
    position_bias_scale: PositiveFloat = 1.0
    """Factor of the position biases; 128 in v1.1, which multiplied logits by that after the biases were added."""
    learned_nulls: bool = True
    """Whether there are learned vectors for an absent text and noised embedding, as since version 1.9."""
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


class Dalle2UNetConfig(Config):
    """Shape of a decoder or upsampler of DALLE2-pytorch, and the diffusion process that it is trained in."""

    architecture: Literal["dalle2-pytorch-unet"] = "dalle2-pytorch-unet"
    """Distinguishes these weights from those of `Decoder` and `Upsampler`."""
    image_size: PositiveInt
    """Side in pixels of the training pictures; other sizes and shapes work if the levels divide them."""
    in_channels: PositiveInt = 3
    """Channels of a picture."""
    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first."""
    num_res_blocks: tuple[PositiveInt, ...]
    """Residual blocks of each level, besides the one that it begins with."""
    num_groups: tuple[PositiveInt, ...]
    """Groups of the norms of each level."""
    self_attention: tuple[bool, ...]
    """Which levels have attention over pixels; the middle always has."""
    linear_attention: bool = False
    """Whether the other levels have linear attention."""
    num_heads: PositiveInt = 16
    """Attention heads; in attention over pixels they share their keys and values."""
    head_dim: PositiveInt = 32
    """Channels of an attention head."""
    cosine_self_attention: bool = False
    """Whether logits of attention over pixels are 16 times cosines."""
    cosine_cross_attention: bool = False
    """Whether logits of attention to conditioning tokens are 16 times cosines."""
    context_dim: PositiveInt
    """Width of the conditioning tokens."""
    num_time_tokens: PositiveInt = 2
    """Conditioning tokens from the time."""
    embedding_dim: NonNegativeInt = 0
    """Size of the CLIP image embedding; 0 = none is read."""
    num_image_tokens: PositiveInt = 4
    """Conditioning tokens from the image embedding."""
    add_image_to_time: bool = True
    """Whether the image embedding is also added to the time embedding."""
    text_dim: NonNegativeInt = 0
    """Width of the CLIP text tokens; 0 = no text. Only the middle attends to text."""
    num_text_tokens: PositiveInt = 256
    """Tokens of a text: shorter texts are filled up with learned padding, one vector a place."""
    low_res: bool = False
    """Whether the network reads a picture of lower resolution, as upsamplers do."""
    low_res_noise: bool = False
    """Whether the network is conditioned on how noisy that picture is."""
    self_conditioning: bool = False
    """Whether the network reads its last prediction."""
    stem_kernels: tuple[PositiveInt, ...] = Field(default=(3, 7, 15), min_length=1)
    """Kernels of the first convolutions, side by side."""
    final_kernel: PositiveInt = 1
    """Kernel of the last convolution."""
    downsample: Downsample = "unshuffle"
    """Layer that halves the size; version 1.10 changed from "conv" to "unshuffle"."""
    downsample_kernels: tuple[PositiveInt, ...] = (2, 4)
    """Kernels of "cross_embed"."""
    upsample: Upsample = "pixel_shuffle"
    """Layer that doubles the size."""
    memory_efficient: bool = False
    """Whether a level halves the size before its blocks rather than after them, the finest too."""
    scale_skips: bool = False
    """Whether the skip connections are divided by the square root of 2."""
    standardized_weights: bool = False
    """Whether the filters of residual blocks are standardised."""
    learned_variance: bool = True
    """Whether the network also outputs the variance, as a fraction in [-1, 1] per pixel, in further channels."""
    prediction_type: PredictionType = "eps"
    """What the first channels of the output are."""
    schedule: ScheduleName = "cosine"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    squared_attention_scale: bool = True
    """Whether dot products over pixels are divided by head_dim, as since version 1.4.3, or by its square root."""
    normalized_linear_attention: bool = True
    """Whether linear attention normalises its values, as since version 1.4."""

    @model_validator(mode="after")
    def _check(self) -> "Dalle2UNetConfig":
        self._check_lengths()
        self._check_widths()
        if self.embedding_dim == self.context_dim:
            raise ConfigError(
                f"embedding_dim=context_dim={self.context_dim}: DALLE2-pytorch then leaves out the projection to "
                "tokens, and mixes up the samples of a batch."
            )
        if self.low_res_noise and not self.low_res:
            raise ConfigError("low_res_noise=True needs low_res=True.")
        if self.image_size % self.size_multiple:
            raise ConfigError(
                f"image_size={self.image_size} is not divisible by {self.size_multiple}, what the levels divide by."
            )
        return self

    @property
    def size_multiple(self) -> int:
        """Divisor of height and width."""
        return int(2 ** (len(self.channel_mult) - (0 if self.memory_efficient else 1)))

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Channels at the beginning and the end of each level on the way down."""
        widths = [self.base_channels, *(self.base_channels * mult for mult in self.channel_mult)]
        return list(pairwise(widths))

    def _check_lengths(self) -> None:
        num = len(self.channel_mult)
        for name in ("num_res_blocks", "num_groups", "self_attention"):
            if len(getattr(self, name)) != num:
                raise ConfigError(f"{name} has {len(getattr(self, name))} entries; channel_mult has {num} levels.")

    def _check_widths(self) -> None:
        if self.base_channels % 2 or self.base_channels < 4:
            raise ConfigError(f"base_channels={self.base_channels} is not an even number from 4 on.")
        if self.channel_mult[0] != 1 and not self.memory_efficient:
            raise ConfigError(
                f"channel_mult begins with {self.channel_mult[0]}; without memory_efficient it must be 1."
            )
        for (first, last), groups in zip(self.levels, self.num_groups, strict=True):
            if last % groups or (first % groups and not self.memory_efficient):
                raise ConfigError(
                    f"num_groups has {groups}, which does not divide the level's {first} and {last} channels."
                )


# Behaviour of the networks up to version 1.3, for which there is no option.
V1_1_PRIOR: dict[str, Any] = {
    "cosine_attention": False,
    "position_bias_scale": 128.0,
    "learned_nulls": False,
    "null_hides_x_t": False,
    "truncated_time": True,
}
V1_1_UNET: dict[str, Any] = {"squared_attention_scale": False, "normalized_linear_attention": False}


def dalle2_prior_preset(name: str) -> Dalle2PriorConfig:
    """Get "laion-prior" (ViT-L/14, 249M parameters); else `InputError`."""
    _check(name, "laion-prior")
    return Dalle2PriorConfig(
        embedding_dim=768,
        num_text_tokens=77,
        depth=24,
        num_heads=32,
        num_embedded_timesteps=1000,
        norm_ff=True,
        attention_dropout=0.05,
        ff_dropout=0.05,
        **V1_1_PRIOR,
    )


def dalle2_decoder_preset(name: str) -> Dalle2UNetConfig:
    """Get "laion-decoder" (ViT-L/14 with text, 64 px, 983M parameters); else `InputError`."""
    _check(name, "laion-decoder")
    return Dalle2UNetConfig(
        image_size=64,
        base_channels=320,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=(4, 4, 4, 4),
        num_groups=(8, 8, 8, 8),
        self_attention=(False, True, True, True),
        linear_attention=True,
        num_heads=8,
        head_dim=64,
        context_dim=512,
        embedding_dim=768,
        text_dim=768,
        memory_efficient=True,
        downsample="conv",
        **V1_1_UNET,
    )


def _check(name: str, allowed: str) -> None:
    if name != allowed:
        raise InputError(f"no preset of DALLE2-pytorch is called {name!r} here; {did_you_mean(name, [allowed])}")
