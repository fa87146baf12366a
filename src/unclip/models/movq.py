"""The VQ autoencoder of latent diffusion: config, network and blocks."""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.config import Config
from unclip.errors import InputError
from unclip.models.common import Depth, Reconstruction, straight_through
from unclip.models.unet import check_divisible, check_levels
from unclip.nn import GroupNorm32, Linear, Resample, attention, resample, split_heads
from unclip.shapes import Images, Latents

Bottleneck = Float[Tensor, "batch bottleneck_channels latent_height latent_width"]

# VQGAN's epsilon; the norms of the U-Nets have 1e-5.
_EPS = 1e-6
# Latent pixels compared with the whole codebook at once: 64 MiB of distances for 16,384 codes.
_CHUNK = 1024


class AutoencoderConfig(Config):
    """Shape of a VQ autoencoder: VQGAN's, or MoVQ's where `norm` is "spatial"."""

    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first; each level halves the grid of the one before."""
    num_res_blocks: Depth
    """Residual blocks per level of the encoder; the decoder has one more."""
    attention_levels: tuple[NonNegativeInt, ...]
    """Levels whose blocks are followed by attention."""
    middle_attention: bool = True
    """Whether the middle, on the coarsest grid, has attention."""
    bottleneck_channels: PositiveInt
    """Channels between encoder or decoder and the 1 x 1 convolution beside the latent."""
    latent_channels: PositiveInt
    """Channels of a latent, which is the length of a codebook vector."""
    codebook_size: PositiveInt
    """Number of codebook vectors."""
    norm: Literal["group", "spatial"]
    """Norms of the decoder: "group", or "spatial", whose results the latent scales and shifts (MoVQ)."""
    in_channels: PositiveInt = 3
    """Channels of a picture."""
    scaling_factor: float = Field(default=1.0, gt=0.0)
    """Factor of the latents in diffusion; `encode` and `decode` do not apply it."""

    @property
    def widths(self) -> list[int]:
        """Channels of each level, finest first."""
        return [self.base_channels * mult for mult in self.channel_mult]

    @property
    def downsampling(self) -> int:
        """Pixels of a picture per pixel of a latent, along each side."""
        return 2 ** (len(self.channel_mult) - 1)

    @model_validator(mode="after")
    def _check(self) -> "AutoencoderConfig":
        check_levels(self.attention_levels, len(self.channel_mult))
        return self


class Autoencoder(nn.Module):
    """VQGAN (Esser et al. 2021), with the spatial norms of MoVQ (Zheng et al. 2022) if the config asks for them.

    Latent diffusion uses `encode` and `decode`, on latents that are not quantised.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = LatentEncoder(config)
        self.pre_quantize = nn.Conv2d(config.bottleneck_channels, config.latent_channels, 1)
        # Uniform within 1 / codebook_size, as in VQGAN.
        spread = 2 * torch.rand(config.codebook_size, config.latent_channels) - 1
        self.codebook = nn.Parameter(spread / config.codebook_size)
        self.post_quantize = nn.Conv2d(config.latent_channels, config.bottleneck_channels, 1)
        self.decoder = LatentDecoder(config)

    def forward(self, images: Images, noise: Latents | None = None, latent_noise: float = 0.0) -> Reconstruction:
        """Encode, quantise and decode pictures in [-1, 1]; gradients go straight through the quantisation.

        `latent_noise`, in units of the deviation of a picture's latents, scales the standard normal `noise` that is
        added to the quantised ones (None: nothing is). Raises as `encode`.
        """
        latents = self.encode(images)
        quantized, penalty = straight_through(latents.float(), self.quantize(latents).float())
        if noise is not None:
            deviation = latents.detach().float().flatten(1).std(dim=1).view(-1, 1, 1, 1)
            quantized = quantized + latent_noise * deviation * noise
        return Reconstruction(self.decode(quantized), penalty)

    def measure(self, batches: Iterable[Images]) -> None:
        """Leave the latents as they are, and the batches unread: MoVQ's are not standardised."""

    def encode(self, images: Images) -> Latents:
        """Encode pictures in [-1, 1], without quantising: `latent_channels`, each side `downsampling` times shorter.

        Raises `InputError` for pictures of other channels, or whose sides the levels do not divide.
        """
        _check_channels("images", images.shape[1], self.config.in_channels)
        reason = f"the autoencoder halves {len(self.config.channel_mult) - 1} times"
        for name, size in zip(("height", "width"), images.shape[2:], strict=True):
            check_divisible(name, size, self.config.downsampling, reason, InputError)
        latents: Tensor = self.pre_quantize(self.encoder(images.to(self.codebook.dtype)))
        return latents

    def decode(self, latents: Latents, quantize: bool = False) -> Images:
        """Return pictures near [-1, 1], not clipped; `quantize` replaces latents by their nearest codebook vectors.

        Raises `InputError` for latents of other channels.
        """
        _check_channels("latents", latents.shape[1], self.config.latent_channels)
        latents = self.quantize(latents) if quantize else latents.to(self.codebook.dtype)
        images: Tensor = self.decoder(self.post_quantize(latents), latents)
        return images

    def quantize(self, latents: Latents) -> Latents:
        """Replace each latent pixel by its nearest codebook vector; no gradient reaches `latents`."""
        return self.codebook[self.codes(latents)].permute(0, 3, 1, 2)

    # Nearest codebook vector, VQGAN eq. 2. In float32: in half precision many of 16,384 distances are equal.
    @torch.no_grad()
    def codes(self, latents: Latents) -> Int64[Tensor, "batch latent_height latent_width"]:
        """Return the index in the codebook of the vector nearest to each latent pixel."""
        pixels = latents.permute(0, 2, 3, 1)
        codebook = self.codebook.float()
        nearest = [
            # A matrix product is faster, but loses the digits that tell near vectors apart.
            torch.cdist(chunk, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
            for chunk in pixels.flatten(0, 2).float().split(_CHUNK)
        ]
        return torch.cat(nearest).view(pixels.shape[:3])


class LatentEncoder(nn.Module):
    """Pictures to bottleneck features: levels of residual blocks from fine to coarse, then the middle."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            inputs = [channels] + [width] * (config.num_res_blocks - 1)
            attended = [level in config.attention_levels] * len(inputs)
            last = level == len(widths) - 1
            self.down.append(LatentLevel(inputs, width, attended, "none" if last else "down"))
            channels = width
        self.middle = LatentLevel([channels] * 2, channels, [config.middle_attention, False], "none")
        self.norm_out = LatentNorm(channels, 0)
        self.conv_out = nn.Conv2d(channels, config.bottleneck_channels, 3, padding=1)

    def forward(self, images: Images) -> Bottleneck:
        """Encode pictures."""
        h = self.conv_in(images)
        for level in self.down:
            h = level(h)
        features: Tensor = self.conv_out(F.silu(self.norm_out(self.middle(h), None)))
        return features


class LatentDecoder(nn.Module):
    """Bottleneck features to pictures: the middle, then levels of residual blocks from coarse to fine."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        latent_channels = config.latent_channels if config.norm == "spatial" else 0
        channels = config.widths[-1]
        self.conv_in = nn.Conv2d(config.bottleneck_channels, channels, 3, padding=1)
        self.middle = LatentLevel([channels] * 2, channels, [config.middle_attention, False], "none", latent_channels)
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(config.widths))):
            inputs = [channels] + [width] * config.num_res_blocks
            attended = [level in config.attention_levels] * len(inputs)
            self.up.append(LatentLevel(inputs, width, attended, "up" if level else "none", latent_channels))
            channels = width
        self.norm_out = LatentNorm(channels, latent_channels)
        self.conv_out = nn.Conv2d(channels, config.in_channels, 3, padding=1)

    def forward(self, features: Bottleneck, latents: Latents) -> Images:
        """Decode bottleneck features; `latents` are those that the features were made from."""
        h = self.middle(self.conv_in(features), latents)
        for level in self.up:
            h = level(h, latents)
        images: Tensor = self.conv_out(F.silu(self.norm_out(h, latents)))
        return images


class LatentLevel(nn.Module):
    """The blocks of one grid size in one direction, and the change to the next grid size."""

    def __init__(
        self, inputs: list[int], width: int, attended: list[bool], direction: Resample, latent_channels: int = 0
    ) -> None:
        super().__init__()
        self.direction: Resample = direction
        self.blocks = nn.ModuleList(
            LatentBlock(in_channels, width, attends, latent_channels)
            for in_channels, attends in zip(inputs, attended, strict=True)
        )
        self.resample: nn.Conv2d | None = None
        if direction == "down":
            self.resample = nn.Conv2d(width, width, 3, stride=2)
        elif direction == "up":
            self.resample = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, h: Images, latents: Latents | None = None
    ) -> Float[Tensor, "batch out_channels new_height new_width"]:
        """Map a feature map to one of the level's width on the next level's grid."""
        for block in self.blocks:
            h = block(h, latents)
        if self.resample is None:
            return h
        # Halving pads below and on the right only, as VQGAN does, so that an even size gives exactly half of it.
        h = F.pad(h, (0, 1, 0, 1)) if self.direction == "down" else resample(h, "up")
        resampled: Tensor = self.resample(h)
        return resampled


class LatentBlock(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, in_channels: int, out_channels: int, attended: bool, latent_channels: int) -> None:
        super().__init__()
        self.res = LatentResidual(in_channels, out_channels, latent_channels)
        self.attention = PixelAttention(out_channels, latent_channels) if attended else None

    def forward(self, h: Images, latents: Latents | None) -> Float[Tensor, "batch out_channels height width"]:
        """Map a feature map to one of `out_channels`."""
        h = self.res(h, latents)
        return h if self.attention is None else self.attention(h, latents)


class PixelAttention(nn.Module):
    """Self-attention over the pixels with a single head, and a residual connection (VQGAN)."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = LatentNorm(channels, latent_channels)
        self.qkv = Linear(channels, 3 * channels)
        self.out = Linear(channels, channels)

    def forward(self, x: Images, latents: Latents | None) -> Images:
        """Attend over all pixels."""
        pixels = self.norm(x, latents).flatten(2).transpose(1, 2)  # (N, H W, C)
        q, k, v = split_heads(self.qkv(pixels), 3, x.shape[1])
        mixed = self.out(attention(q, k, v).transpose(1, 2).flatten(2))  # (N, H W, C)
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])


class LatentResidual(nn.Module):
    """norm-SiLU-conv twice beside a skip connection (VQGAN)."""

    def __init__(self, in_channels: int, out_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm_1 = LatentNorm(in_channels, latent_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_2 = LatentNorm(out_channels, latent_channels)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Images, latents: Latents | None) -> Float[Tensor, "batch out_channels height width"]:
        """Map a feature map to one of `out_channels`."""
        h = self.conv_1(F.silu(self.norm_1(x, latents)))
        h = self.conv_2(F.silu(self.norm_2(h, latents)))
        skip: Tensor = self.skip(x)
        return skip + h


class LatentNorm(nn.Module):
    """Group normalisation and, if `latent_channels` is not 0, MoVQ's scale and shift of every pixel from the latent."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm32(channels, eps=_EPS)
        self.scale_shift = nn.Conv2d(latent_channels, 2 * channels, 1) if latent_channels else None

    def forward(self, x: Images, latents: Latents | None) -> Images:
        """Normalise; `latents` may have any size and is needed exactly if built with `latent_channels`."""
        h = self.norm(x)
        if self.scale_shift is None:
            return h
        assert latents is not None, "built with latent_channels but called without a latent"
        # A 1 x 1 convolution commutes with repeating pixels; before it, it costs up to 64 times less.
        scale, shift = F.interpolate(self.scale_shift(latents), size=x.shape[2:], mode="nearest").chunk(2, dim=1)
        return torch.addcmul(shift, h, scale)


def _check_channels(name: str, channels: int, allowed: int) -> None:
    if channels != allowed:
        shape = f"(batch, {allowed}, height, width)"
        raise InputError(f"{name} have {channels} channels, but this autoencoder takes {allowed}; pass {shape}.")
