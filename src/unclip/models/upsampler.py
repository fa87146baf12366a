"""The upsampler network: predict from a noisy large picture and a small clean one."""

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.config import Config
from unclip.diffusion import PredictionType, ScheduleName
from unclip.errors import ConfigError, InputError
from unclip.models.common import Depth, embed_level
from unclip.models.unet import UNet, UNetConfig, trunk_config
from unclip.nn import Norm, TimeConditioning, TimeEmbedding
from unclip.runtime import at_least_float32
from unclip.shapes import Timesteps


class UpsamplerConfig(Config):
    """Shape of an upsampler, and the diffusion process that it is trained in."""

    image_size: PositiveInt
    """Side in pixels of the output; crops and other shapes work if the levels divide them."""
    low_res_size: PositiveInt
    """Side in pixels of the small picture for an output of `image_size`."""
    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first."""
    num_res_blocks: Depth
    """Residual blocks per level on the way down."""
    patch_size: PositiveInt = 1
    """Side of the pixel blocks that become channels."""
    conditioning: TimeConditioning = "additive"
    """How the time embedding enters a residual block."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability inside residual blocks."""
    norm: Norm = "group"
    """Normalisation over groups of channels of the whole picture, or over the channels of each pixel."""
    residual: bool = False
    """Whether the enlarged small picture is added to the output, which must be `x0`."""
    noise_conditioning: bool = False
    """Whether the network is conditioned on how strongly the small picture was augmented."""
    learned_variance: bool = False
    """Whether the network also outputs the variance, as a fraction in [-1, 1] per pixel, in further channels."""
    prediction_type: PredictionType = "eps"
    """What the first channels of the output are."""
    schedule: ScheduleName = "cosine"
    """Noise schedule of the training."""
    num_timesteps: PositiveInt = 1000
    """Length of that schedule's table."""
    in_channels: PositiveInt = 3
    """Channels of a picture."""

    @model_validator(mode="after")
    def _check(self) -> "UpsamplerConfig":
        self.unet().check(self.image_size)
        if self.low_res_size >= self.image_size:
            raise ConfigError(f"low_res_size={self.low_res_size} is not below image_size={self.image_size}.")
        if self.residual and self.prediction_type != "x0":
            raise ConfigError(f"residual=True adds to a picture, not to {self.prediction_type!r}; predict 'x0'.")
        return self

    @property
    def size_multiple(self) -> int:
        """Divisor of the height and width of a picture."""
        return self.unet().size_multiple

    def unet(self) -> UNetConfig:
        """Return the trunk's config: fully convolutional, so that weights learned on crops fit the whole picture."""
        fields = {
            "in_channels": 2 * self.in_channels,
            "out_channels": self.in_channels * (2 if self.learned_variance else 1),
            "attention_levels": (),
            "head_dim": 1,
            "context_dim": 0,
        }
        return trunk_config(self, fields)


class Upsampler(nn.Module):
    """unCLIP's upsampler (paper, section 2.3): ADM U-Net without attention, the enlarged small picture as input too."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        trunk = config.unet()
        self.time_embedding = TimeEmbedding(config.base_channels, trunk.embedding_dim)
        if config.noise_conditioning:
            self.augmentation_embedding = TimeEmbedding(config.base_channels, trunk.embedding_dim)
        self.unet = UNet(trunk)

    def forward(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        timestep: Timesteps,
        low_res: Float[Tensor, "batch channels low_height low_width"],
        augmentation: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Predict from a noisy picture; the output has twice the channels if the variance is learned.

        `low_res` is enlarged here (bicubic, antialiased) unless it has the size of `x_t` already. `augmentation` in
        [0, 1] says how strongly it was noised (None: not at all). Raises `InputError` for sizes that the levels do not
        divide, and for an augmentation without `noise_conditioning`.
        """
        emb = self.time_embedding(timestep)
        if self.config.noise_conditioning:
            emb = emb + embed_level(self.augmentation_embedding, augmentation, timestep)
        elif augmentation is not None:
            raise InputError("this upsampler reads no augmentation (noise_conditioning=False); leave it out.")
        enlarged = _enlarge(low_res, x_t)
        output: Tensor = self.unet(torch.cat([at_least_float32(x_t), enlarged], dim=1), emb)
        if not self.config.residual:
            return output
        # In float32: a bfloat16 sum would lose steps of 8-bit colour; the correction, being small, does not.
        mean, rest = at_least_float32(output).split([enlarged.shape[1], output.shape[1] - enlarged.shape[1]], dim=1)
        return torch.cat([mean + enlarged, rest], dim=1)


def _enlarge(low_res: Tensor, x_t: Tensor) -> Tensor:
    low_res = at_least_float32(low_res)  # The antialiased kernel has no bfloat16 on a CPU.
    if low_res.shape[2:] == x_t.shape[2:]:
        return low_res
    return F.interpolate(low_res, size=x_t.shape[2:], mode="bicubic", align_corners=False, antialias=True)
