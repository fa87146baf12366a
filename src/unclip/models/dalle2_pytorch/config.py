"""The config of a U-Net of DALLE2-pytorch. Knows no tensors."""

from itertools import pairwise
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from unclip.config import Config
from unclip.errors import ConfigError
from unclip.models.choices import PredictionType, ScheduleName
from unclip.models.dalle2_pytorch.blocks import Downsample, Upsample


class Dalle2UNetConfig(Config):
    """Shape of a decoder or upsampler of DALLE2-pytorch, and the diffusion that its output belongs to."""

    architecture: Literal["dalle2-pytorch-unet"] = "dalle2-pytorch-unet"
    """Tells these weights from those of our own decoder and upsampler."""
    image_size: PositiveInt
    """Side in pixels that it is trained at; other sizes and shapes work where the levels divide them."""
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
    """The same of attention to conditioning tokens."""
    context_dim: PositiveInt
    """Width of the conditioning tokens."""
    num_time_tokens: PositiveInt = 2
    """Conditioning tokens from the time."""
    embedding_dim: NonNegativeInt = 0
    """Size of the CLIP image embedding; 0 = it is not read."""
    num_image_tokens: PositiveInt = 4
    """Conditioning tokens from the image embedding."""
    add_image_to_time: bool = True
    """Whether the image embedding is also added to the time embedding."""
    text_dim: NonNegativeInt = 0
    """Width of the CLIP text tokens; 0 = no text. Only the middle attends to text."""
    num_text_tokens: PositiveInt = 256
    """Tokens that a text takes: shorter ones are filled up with learned padding, one vector a place."""
    low_res: bool = False
    """Whether it reads a picture of lower resolution, as upsamplers do."""
    low_res_noise: bool = False
    """Whether it is told how noisy that picture is."""
    self_conditioning: bool = False
    """Whether it reads its own last prediction."""
    stem_kernels: tuple[PositiveInt, ...] = Field(default=(3, 7, 15), min_length=1)
    """Kernels of the first convolutions, side by side."""
    final_kernel: PositiveInt = 1
    """Kernel of the last convolution."""
    downsample: Downsample = "unshuffle"
    """What halves the size; version 1.10 changed from "conv" to "unshuffle"."""
    downsample_kernels: tuple[PositiveInt, ...] = (2, 4)
    """Kernels of "cross_embed"."""
    upsample: Upsample = "pixel_shuffle"
    """What doubles the size."""
    memory_efficient: bool = False
    """Whether a level halves the size before its blocks rather than after them, the finest too."""
    scale_skips: bool = False
    """Whether what the way up reads of the way down is divided by the square root of 2."""
    standardized_weights: bool = False
    """Whether the filters of residual blocks are standardised."""
    learned_variance: bool = True
    """Whether it also outputs the variance, as a fraction in [-1, 1] per pixel, in further channels."""
    prediction_type: PredictionType = "eps"
    """What the first channels of the output are."""
    schedule: ScheduleName = "cosine"
    """Noise schedule that it is trained with."""
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
        """What height and width must be divisible by."""
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
