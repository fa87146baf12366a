"""The U-Net of decoders and upsamplers, conditioned on an embedding and context tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.config import Config
from unclip.errors import ConfigError, InputError, UnclipError
from unclip.nn import Context, Norm, Resample, ResBlock, SpatialAttention, TimeConditioning, make_norm, zeroed
from unclip.shapes import Embeddings, Images, TokenMask


class UNetConfig(Config):
    """Shape of a U-Net trunk."""

    in_channels: PositiveInt
    """Channels of the input picture, before pixel-unshuffle."""
    out_channels: PositiveInt
    """Channels of the output picture, after pixel-shuffle."""
    base_channels: PositiveInt
    """Width that `channel_mult` multiplies."""
    channel_mult: tuple[PositiveInt, ...] = Field(min_length=1)
    """Width of each level, finest first; each level halves the grid of the one before."""
    num_res_blocks: PositiveInt
    """Residual blocks per level on the way down; the way up has one more."""
    attention_levels: tuple[NonNegativeInt, ...]
    """Levels whose blocks are followed by attention; if there is one, the middle has attention too."""
    head_dim: PositiveInt
    """Channels of an attention head."""
    context_dim: NonNegativeInt
    """Width of the context tokens; 0 = attention over pixels only."""
    patch_size: PositiveInt
    """Side of the pixel blocks that become channels on the way in, and blocks again on the way out."""
    conditioning: TimeConditioning
    """How the embedding enters a residual block."""
    dropout: float
    """Dropout probability inside residual blocks."""
    norm: Norm = "group"
    """Normalisation outside attention: over groups of channels of the whole picture, or over those of each pixel."""

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding that conditions every block."""
        return 4 * self.base_channels

    @property
    def size_multiple(self) -> int:
        """Divisor of height and width."""
        return int(self.patch_size * 2 ** (len(self.channel_mult) - 1))

    def check(self, image_size: int) -> None:
        """Raise `ConfigError` if the fields do not fit each other or `image_size`."""
        check_levels(self.attention_levels, len(self.channel_mult))
        check_size("image_size", image_size, self.patch_size, len(self.channel_mult), ConfigError)
        for level in self.attention_levels:
            channels = self.base_channels * self.channel_mult[level]
            if channels % self.head_dim:
                raise ConfigError(
                    f"head_dim={self.head_dim} does not divide the {channels} channels of level {level}; "
                    "change head_dim, base_channels or channel_mult."
                )


def trunk_config(config: Config, fields: Mapping[str, Any]) -> UNetConfig:
    """Build the config of a trunk from the fields that the config of its network shares with it, and from `fields`."""
    shared = UNetConfig.model_fields.keys() & type(config).model_fields.keys()
    return UNetConfig(**{name: getattr(config, name) for name in shared} | dict(fields))


def check_levels(attention_levels: Sequence[int], num_levels: int) -> None:
    """Raise `ConfigError` for a level that the network does not have."""
    for level in attention_levels:
        if level >= num_levels:
            allowed = ", ".join(map(str, range(num_levels)))
            raise ConfigError(f"attention_levels has {level}, but the levels are {allowed}.")


def check_size(name: str, size: int, patch_size: int, num_levels: int, error: type[UnclipError]) -> None:
    """Raise `error` for a side that the U-Net cannot halve; the message names the nearest sides that it can."""
    reason = f"patch_size {patch_size}, then the U-Net halves {num_levels - 1} times"
    check_divisible(name, size, patch_size * 2 ** (num_levels - 1), reason, error)


def check_divisible(name: str, size: int, multiple: int, reason: str, error: type[UnclipError]) -> None:
    """Raise `error` for a side that is not a multiple; the message names the nearest ones and says `reason`."""
    if size % multiple or size < 1:
        lower = max(size // multiple, 1) * multiple
        raise error(f"{name}={size} is not divisible by {multiple} ({reason}); use {lower} or {lower + multiple}.")


class BlockInputs(NamedTuple):
    """Conditioning of every block of the U-Net."""

    activated: Embeddings
    """The embedding after its SiLU, (batch, embedding_dim)."""
    context: Context | None
    """Context tokens, (batch, length, context_dim)."""
    context_mask: TokenMask | None
    """True for real tokens; None: all are."""


class UNet(nn.Module):
    """ADM's U-Net: levels of residual blocks, each output on the way down kept for the way up.

    Blocks follow the order of the published unCLIP decoders and upsamplers, whose weights map onto them one to one.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_channels * mult for mult in config.channel_mult]
        area = config.patch_size**2
        self.conv_in = nn.Conv2d(config.in_channels * area, widths[0], 3, padding=1)

        self.down = nn.ModuleList()
        skip_widths = [widths[0]]
        for level, width in enumerate(widths):
            inputs = [skip_widths[-1]] + [width] * (config.num_res_blocks - 1)
            last = level == len(widths) - 1
            attended = [level in config.attention_levels] * len(inputs)
            self.down.append(UNetLevel(config, inputs, width, attended, "none" if last else "down"))
            skip_widths += [width] * (config.num_res_blocks + (not last))

        channels = widths[-1]
        self.middle = UNetLevel(config, [channels] * 2, channels, [bool(config.attention_levels), False], "none")

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            inputs = [skip_widths.pop() + (width if index else channels) for index in range(config.num_res_blocks + 1)]
            attended = [level in config.attention_levels] * len(inputs)
            self.up.append(UNetLevel(config, inputs, width, attended, "up" if level else "none"))
            channels = width

        self.norm_out = make_norm(config.norm, channels)
        # The first prediction is zero, so that the loss starts at the target's variance.
        self.conv_out = zeroed(nn.Conv2d(channels, config.out_channels * area, 3, padding=1))

    def forward(
        self,
        x: Images,
        embedding: Embeddings,
        context: Context | None = None,
        context_mask: TokenMask | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Map a picture to one of `out_channels`, conditioned on (batch, embedding_dim) and on context tokens."""
        for name, size in zip(("height", "width"), x.shape[2:], strict=True):
            check_size(name, size, self.config.patch_size, len(self.config.channel_mult), InputError)
        conditioning = BlockInputs(F.silu(embedding), context, context_mask)
        skips = [self.conv_in(F.pixel_unshuffle(x, self.config.patch_size).to(self.conv_in.weight.dtype))]
        for level in self.down:
            skips += level(skips[-1], [], conditioning)
        h = self.middle(skips[-1], [], conditioning)[-1]
        for level in self.up:
            h = level(h, skips, conditioning)[-1]
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.config.patch_size)


class UNetLevel(nn.Module):
    """The blocks of one grid size in one direction, and the change to the next grid size."""

    def __init__(
        self, config: UNetConfig, inputs: list[int], width: int, attended: list[bool], resample: Resample
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            UNetBlock(config, in_channels, width, attends)
            for in_channels, attends in zip(inputs, attended, strict=True)
        )
        self.resample = _res_block(config, width, width, resample) if resample != "none" else None

    def forward(self, h: Images, skips: list[Tensor], conditioning: BlockInputs) -> list[Tensor]:
        """Return the outputs of the blocks and of the resampling; each block takes one map off the end of `skips`."""
        outputs = []
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1) if skips else h, conditioning)
            outputs.append(h)
        if self.resample is not None:
            outputs.append(self.resample(h, conditioning.activated))
        return outputs


class UNetBlock(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, config: UNetConfig, in_channels: int, width: int, attended: bool) -> None:
        super().__init__()
        self.res = _res_block(config, in_channels, width, "none")
        self.attention = SpatialAttention(width, config.head_dim, config.context_dim) if attended else None

    def forward(self, h: Images, conditioning: BlockInputs) -> Float[Tensor, "batch out_channels height width"]:
        """Map a feature map to one of the level's width."""
        h = self.res(h, conditioning.activated)
        if self.attention is not None:
            h = self.attention(h, conditioning.context, conditioning.context_mask)
        return h


def _res_block(config: UNetConfig, in_channels: int, out_channels: int, resample: Resample) -> ResBlock:
    return ResBlock(
        in_channels,
        out_channels,
        config.embedding_dim,
        conditioning=config.conditioning,
        resample=resample,
        dropout=config.dropout,
        norm=config.norm,
    )
