"""The convolutional autoencoder: pictures to latents on a small grid and back, without norms or attention."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.config import Config
from unclip.errors import ConfigError, InputError
from unclip.models.common import Depth, Reconstruction, straight_through
from unclip.models.unet import check_divisible
from unclip.nn import Block
from unclip.nn.init import zeroed
from unclip.shapes import Images, Latents

# A posterior's log-variance stays within these bounds, as in latent diffusion: beyond them its exponential overflows.
_LOG_VARIANCE_BOUNDS = (-30.0, 20.0)
# Deviation of a latent channel that is the same in all pictures.
_LEAST_STD = 1e-3


class ConvAutoencoderConfig(Config):
    """Shape of a convolutional autoencoder."""

    in_channels: PositiveInt = 3
    """Channels of a picture: 3, or 4 for pictures on white with their coverage (alpha) behind the colours."""
    latent_channels: PositiveInt
    """Channels of a latent."""
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    """Channels of each level, finest first; each level halves the grid of the one before."""
    encoder_blocks: Depth = 1
    """Residual blocks per level of the encoder."""
    decoder_blocks: Depth = 2
    """Residual blocks per level of the decoder."""
    patch_size: PositiveInt = 4
    """Side of the pixel blocks that become channels: the finest grid is image_size / patch_size."""
    regularizer: Literal["kl", "vq"] = "kl"
    """What keeps latents simple: a posterior drawn towards a standard normal, or a codebook."""
    codebook_size: PositiveInt | None = None
    """Number of codebook vectors, with "vq" alone."""

    @property
    def downsampling(self) -> int:
        """Pixels of a picture per pixel of a latent, along each side."""
        return int(self.patch_size * 2 ** (len(self.widths) - 1))

    @model_validator(mode="after")
    def _check(self) -> "ConvAutoencoderConfig":
        if (self.regularizer == "vq") != (self.codebook_size is not None):
            raise ConfigError(
                f"regularizer={self.regularizer!r} with codebook_size={self.codebook_size}: a codebook belongs to 'vq' "
                "alone; set codebook_size=1024 with 'vq', null with 'kl'."
            )
        return self


class ConvAutoencoder(nn.Module):
    """Latent diffusion's first stage (Rombach et al. 2022) from 3 x 3 convolutions alone, which run fast on a CPU.

    `encode` and `decode` work on standardised latents, mean 0 and deviation 1 in each channel, by the buffers
    `latent_mean` and `latent_std`. These start as the identity, and are measured when training exports the network.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: ConvAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvEncoder(config)
        self.decoder = ConvDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        if config.codebook_size is not None:
            self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.latent_channels))

    def forward(self, images: Images, noise: Latents | None = None, latent_noise: float = 0.0) -> Reconstruction:
        """Encode pictures in [-1, 1] and decode a draw of their latents, or without `noise` their means.

        `noise` is standard normal; `latent_noise`, in units of the deviation of a picture's latents, is drawn with it
        beside the posterior's own. Raises as `encode`.
        """
        mean, log_variance = self._encode(images)
        latents, variance = mean, (latent_noise * mean.detach().flatten(1).std(dim=1).view(-1, 1, 1, 1)) ** 2
        if log_variance is None:
            latents, penalty = self._quantize(mean)
        else:
            penalty = 0.5 * (mean.float() ** 2 + log_variance.exp() - 1.0 - log_variance).flatten(1).mean(dim=1)
            variance = variance + log_variance.exp()
        if noise is not None:
            latents = latents + variance.sqrt() * noise
        return Reconstruction(self._decode(latents), penalty)

    def encode(self, images: Images) -> Latents:
        """Encode pictures in [-1, 1] to the means of their latents, standardised, in float32 or better.

        Each side is `downsampling` times shorter. Raises `InputError` for pictures of other channels, or whose sides
        the levels do not divide.
        """
        mean, _ = self._encode(images)
        shift, scale = self._statistics(mean)
        return (mean.to(shift.dtype) - shift) / scale

    def decode(self, latents: Latents) -> Images:
        """Decode standardised latents to pictures near [-1, 1], not clipped, through the codebook where there is one.

        Raises `InputError` for latents of other channels.
        """
        _check_channels("latents", latents.shape[1], self.config.latent_channels)
        shift, scale = self._statistics(latents)
        latents = latents.to(shift.dtype) * scale + shift
        return self._decode(latents if self.config.codebook_size is None else self._quantize(latents)[0])

    @torch.no_grad()
    def measure(self, batches: Iterable[Images]) -> None:
        """Set the statistics of the latents to those of batches of pictures in [-1, 1]; raises as `encode`."""
        means = [self._encode(images)[0].movedim(1, -1).flatten(0, 2).double() for images in batches]
        pixels = torch.cat(means)
        self.latent_mean.copy_(pixels.mean(dim=0))
        self.latent_std.copy_(pixels.std(dim=0).clamp_min(_LEAST_STD))

    def _encode(self, images: Images) -> tuple[Latents, Latents | None]:
        """Return means and log-variances, None with a codebook; not standardised."""
        _check_channels("images", images.shape[1], self.config.in_channels)
        factor = self.config.downsampling
        for name, size in zip(("height", "width"), images.shape[2:], strict=True):
            check_divisible(name, size, factor, f"a latent pixel stands for {factor} x {factor} pixels", InputError)
        encoded: Tensor = self.encoder(images.to(self.encoder.conv_in.weight.dtype))
        if self.config.codebook_size is not None:
            return encoded, None
        mean, log_variance = encoded.chunk(2, dim=1)
        return mean, log_variance.float().clamp(*_LOG_VARIANCE_BOUNDS)

    def _quantize(self, latents: Latents) -> tuple[Latents, Float[Tensor, " batch"]]:
        """Return the nearest codebook vector of each latent pixel, and the mean squared distances."""
        pixels = latents.float().movedim(1, -1)
        distances = torch.cdist(pixels.detach().flatten(0, 2), self.codebook.detach().float())
        nearest = F.embedding(distances.argmin(dim=1).view(pixels.shape[:3]), self.codebook.float())
        quantized, penalty = straight_through(pixels, nearest)
        return quantized.movedim(-1, 1), penalty

    def _decode(self, latents: Latents) -> Images:
        images: Tensor = self.decoder(latents.to(self.decoder.conv_in.weight.dtype))
        return images

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(like.dtype, torch.float32)
        shape = (1, -1, 1, 1)
        return self.latent_mean.to(dtype).view(shape), self.latent_std.to(dtype).view(shape)


class ConvEncoder(nn.Module):
    """Pictures to latents, or to their means and log-variances: levels of residual blocks from fine to coarse."""

    def __init__(self, config: ConvAutoencoderConfig) -> None:
        super().__init__()
        self.patch_size, widths = config.patch_size, config.widths
        self.conv_in = nn.Conv2d(config.in_channels * config.patch_size**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ConvBlock(width) for _ in range(config.encoder_blocks))) for width in widths
        )
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths))
        outputs = config.latent_channels * (2 if config.regularizer == "kl" else 1)
        self.conv_out = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, images: Images) -> Float[Tensor, "batch outputs latent_height latent_width"]:
        """Encode pictures."""
        h = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        for number, level in enumerate(self.levels):
            h = level(self.down[number - 1](h) if number else h)
        encoded: Tensor = self.conv_out(F.silu(h))
        return encoded


class ConvDecoder(nn.Module):
    """Latents to pictures: levels of residual blocks from coarse to fine."""

    def __init__(self, config: ConvAutoencoderConfig) -> None:
        super().__init__()
        self.patch_size, widths = config.patch_size, config.widths[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ConvBlock(width) for _ in range(config.decoder_blocks))) for width in widths
        )
        # Four channels of the coarse grid become the four pixels of the fine one (Shi et al. 2016).
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 3, padding=1) for coarse, fine in pairwise(widths))
        self.conv_out = nn.Conv2d(widths[-1], config.in_channels * config.patch_size**2, 3, padding=1)

    def forward(self, latents: Latents) -> Images:
        """Decode latents."""
        h = self.conv_in(latents)
        for number, level in enumerate(self.levels):
            h = level(F.pixel_shuffle(self.up[number - 1](h), 2) if number else h)
        return F.pixel_shuffle(self.conv_out(F.silu(h)), self.patch_size)


class ConvBlock(Block):
    """SiLU-conv twice beside a skip connection; it starts as the identity, so that it needs no norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Images) -> Images:
        """Transform a feature map."""
        changed: Tensor = self.conv_2(F.silu(self.conv_1(F.silu(x))))
        return x + changed


def _check_channels(name: str, channels: int, allowed: int) -> None:
    if channels != allowed:
        shape = f"(batch, {allowed}, height, width)"
        raise InputError(f"{name} have {channels} channels, but this autoencoder takes {allowed}; pass {shape}.")
