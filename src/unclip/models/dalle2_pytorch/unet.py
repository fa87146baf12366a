"""DALLE2-pytorch's U-Net, decoder or upsampler, with its parameter names but for those of the levels."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.errors import InputError
from unclip.models.common import last_x0
from unclip.models.dalle2_pytorch.attention import COSINE_SCALE, LinearAttention, MultiQueryAttention, attend
from unclip.models.dalle2_pytorch.blocks import CrossEmbed, Dalle2ResBlock, NewImages, downsample, upsample
from unclip.models.dalle2_pytorch.config import Dalle2UNetConfig
from unclip.models.dalle2_pytorch.layers import Sinusoid
from unclip.nn import Context, Linear
from unclip.shapes import Embeddings, Images, Timesteps, TokenMask

# Makes a residual block from its input and output channels; the flag is whether it attends to conditioning tokens.
MakeBlock = Callable[[int, int, bool], Dalle2ResBlock]
Present = Bool[Tensor, " batch"]


class Dalle2UNet(nn.Module):
    """The Unet of DALLE2-pytorch, with its parameter names but for those of the levels.

    The time, the image embedding and the noise level of the small picture scale and shift every residual block. Time
    and image are also tokens, which all levels but the finest attend to; the middle attends to text, too.
    """

    def __init__(self, config: Dalle2UNetConfig) -> None:
        super().__init__()
        self.config = config
        base, time_dim = config.base_channels, 4 * config.base_channels
        self.init_conv = _stem(config)
        self._make_conditioning(config, time_dim)
        make = [partial(_res_block, config, groups) for groups in config.num_groups]
        self.init_resnet_block = make[0](base, base, False) if config.memory_efficient else None
        levels = range(len(config.channel_mult))
        self.downs = nn.ModuleList(_down(config, level, make[level]) for level in levels)
        widest = config.levels[-1][1]
        self.middle = Middle(widest, make[-1], _self_attention(config, widest))
        self.ups = nn.ModuleList(_up(config, level, make[level]) for level in reversed(levels))
        self.final_resnet_block = make[0](2 * base, base, False)
        self.to_out = nn.Conv2d(
            base + (config.in_channels if config.low_res else 0),
            config.in_channels * (2 if config.learned_variance else 1),
            config.final_kernel,
            padding=config.final_kernel // 2,
        )

    def _make_conditioning(self, config: Dalle2UNetConfig, time_dim: int) -> None:
        base, context_dim = config.base_channels, config.context_dim
        self.to_time_hiddens = nn.Sequential(Sinusoid(base), Linear(base, time_dim), nn.GELU())
        self.to_time_tokens = nn.Sequential(Linear(time_dim, context_dim * config.num_time_tokens))
        self.to_time_cond = nn.Sequential(Linear(time_dim, time_dim))
        if config.embedding_dim:
            self.image_to_tokens = nn.Sequential(Linear(config.embedding_dim, context_dim * config.num_image_tokens))
        if config.embedding_dim and config.add_image_to_time:
            self.to_image_hiddens = nn.Sequential(Linear(config.embedding_dim, time_dim), nn.GELU())
        if config.text_dim:
            self.text_to_cond = Linear(config.text_dim, context_dim)
        if config.low_res_noise:
            self.to_lowres_noise_cond = nn.Sequential(
                Sinusoid(base), Linear(base, time_dim), nn.GELU(), Linear(time_dim, time_dim)
            )
        self.norm_cond = nn.LayerNorm(context_dim)
        self.norm_mid_cond = nn.LayerNorm(context_dim)
        # These exist in every checkpoint, also of networks that read neither image nor text.
        self.null_image_embed = nn.Parameter(torch.randn(1, config.num_image_tokens, context_dim))
        self.null_image_hiddens = nn.Parameter(torch.randn(1, time_dim))
        self.null_text_embed = nn.Parameter(torch.randn(1, config.num_text_tokens, context_dim))

    def forward(
        self,
        x_t: Images,
        timestep: Timesteps,
        image_embedding: Float[Tensor, "batch dim"] | None = None,
        image_present: Present | None = None,
        text_hidden: Float[Tensor, "batch length text_dim"] | None = None,
        text_mask: TokenMask | None = None,
        text_present: Present | None = None,
        low_res: Images | None = None,
        low_res_noise_level: Timesteps | None = None,
        self_condition: Images | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Predict from a noisy picture; the output has twice the channels if the variance is learned.

        `image_embedding` is a unit vector. `image_present` and `text_present` are False where learned vectors replace
        them (None: all are present); guidance there leaves out both. `text_mask` is True for real tokens (None: those
        that are not all zero). `low_res` is at the size of `x_t` already, by nearest neighbours, and has
        `low_res_noise_level` as its time step in a linear schedule of 1000. `self_condition` is the last prediction
        (None: zeros). Raises `InputError` for sizes that the levels do not divide, and for conditioning that is missing
        or that the config turns off.
        """
        self._check(x_t, image_embedding, text_hidden, low_res, low_res_noise_level)
        dtype = self.to_out.weight.dtype
        time, context = self._condition(timestep, image_embedding, image_present, low_res_noise_level)
        middle = context
        if text_hidden is not None:
            middle = torch.cat([context, self._text(text_hidden.to(dtype), text_mask, text_present)], dim=1)
        x0 = last_x0(self.config.self_conditioning, self_condition, x_t)
        pictures = [picture for picture in (x_t, x0, low_res) if picture is not None]
        stem = self.init_conv(torch.cat(pictures, dim=1).to(dtype))
        x = self._trunk(stem, time, self.norm_cond(context), self.norm_mid_cond(middle))
        x = self.final_resnet_block(torch.cat([x, stem], dim=1), time, context)
        prediction: Tensor = self.to_out(x if low_res is None else torch.cat([x, low_res.to(dtype)], dim=1))
        return prediction

    def _trunk(self, x: Tensor, time: Tensor, context: Tensor, middle: Tensor) -> Tensor:
        if self.init_resnet_block is not None:
            x = self.init_resnet_block(x, time, context)
        skips: list[Tensor] = []
        for stage in self.downs:
            x, outputs = stage(x, time, context)
            skips += outputs
        x = self.middle(x, time, middle)
        if self.config.scale_skips:
            skips = [skip * 2**-0.5 for skip in skips]
        for stage in self.ups:
            x = stage(x, skips, time, context)
        return x

    def _condition(
        self, timestep: Tensor, image: Tensor | None, present: Tensor | None, noise_level: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        dtype = self.to_out.weight.dtype
        hidden = _embed(self.to_time_hiddens, timestep, dtype)
        tokens, time = (
            self.to_time_tokens(hidden).unflatten(-1, (-1, self.config.context_dim)),
            self.to_time_cond(hidden),
        )
        if noise_level is not None:
            time = time + _embed(self.to_lowres_noise_cond, noise_level, dtype)
        if image is None:
            return time, tokens
        if self.config.add_image_to_time:
            time = time + _where(present, self.to_image_hiddens(image.to(dtype)), self.null_image_hiddens)
        image_tokens = self.image_to_tokens(image.to(dtype)).unflatten(-1, (-1, self.config.context_dim))
        return time, torch.cat([tokens, _where(present, image_tokens, self.null_image_embed)], dim=1)

    def _text(self, hidden: Tensor, mask: Tensor | None, present: Tensor | None) -> Tensor:
        real = hidden.ne(0).any(dim=-1)
        if mask is not None:
            real = real & mask
        if present is not None:
            real = real & present[:, None]
        missing = self.config.num_text_tokens - hidden.shape[1]
        tokens = F.pad(self.text_to_cond(hidden), (0, 0, 0, missing))
        return torch.where(F.pad(real, (0, missing))[:, :, None], tokens, self.null_text_embed)

    def _check(
        self, x_t: Tensor, image: Tensor | None, text: Tensor | None, low_res: Tensor | None, noise_level: Tensor | None
    ) -> None:
        config = self.config
        _match("image_embedding", image, config.embedding_dim > 0)
        _match("text_hidden", text, config.text_dim > 0)
        _match("low_res", low_res, config.low_res)
        _match("low_res_noise_level", noise_level, config.low_res_noise)
        if text is not None and text.shape[1] > config.num_text_tokens:
            raise InputError(f"text_hidden has {text.shape[1]} tokens; this network takes {config.num_text_tokens}.")
        height, width = x_t.shape[2:]
        if height % config.size_multiple or width % config.size_multiple:
            raise InputError(
                f"{height} x {width} pixels are not divisible by {config.size_multiple}, what the levels divide by."
            )


def _match(name: str, value: Tensor | None, wanted: bool) -> None:
    if wanted and value is None:
        raise InputError(f"this network needs {name}.")
    if not wanted and value is not None:
        raise InputError(f"this network does not read {name}; leave it out.")


def _where(present: Tensor | None, value: Tensor, null: Tensor) -> Tensor:
    if present is None:
        return value
    return torch.where(present.view(-1, *[1] * (value.ndim - 1)), value, null)


def _embed(layers: nn.Sequential, number: Tensor, dtype: torch.dtype) -> Tensor:
    sinusoid, *rest = layers
    x: Tensor = sinusoid(number).to(dtype)
    for layer in rest:
        x = layer(x)
    return x


class DownStage(nn.Module):
    """`pre`, a residual block without and `num_blocks` with cross-attention (if `cross`), attention, `post`."""

    def __init__(
        self,
        width: int,
        num_blocks: int,
        make_block: MakeBlock,
        *,
        cross: bool,
        attention: nn.Module,
        pre: nn.Module,
        post: nn.Module,
    ) -> None:
        super().__init__()
        self.pre = pre
        self.init = make_block(width, width, False)
        self.blocks = nn.ModuleList(make_block(width, width, cross) for _ in range(num_blocks))
        self.attention = attention
        self.post = post

    def forward(self, x: Images, time: Embeddings, context: Context) -> tuple[NewImages, list[Tensor]]:
        """Return the map for the next level, and the skip connections: after each block and after the attention."""
        x = self.init(self.pre(x), time, context)
        skips = []
        for block in self.blocks:
            x = block(x, time, context)
            skips.append(x)
        x = attend(self.attention, x)
        return self.post(x), [*skips, x]


class Middle(nn.Module):
    """A residual block, attention and a residual block at the smallest size."""

    def __init__(self, width: int, make_block: MakeBlock, attention: nn.Module) -> None:
        super().__init__()
        self.block1 = make_block(width, width, True)
        self.attention = attention
        self.block2 = make_block(width, width, True)

    def forward(self, x: Images, time: Embeddings, context: Context) -> Images:
        """Transform a feature map."""
        x = attend(self.attention, self.block1(x, time, context))
        return self.block2(x, time, context)


class UpStage(nn.Module):
    """One residual block for each map of the way down, with cross-attention if `cross`; attention; `upsample`."""

    def __init__(
        self,
        width: int,
        skip_width: int,
        num_blocks: int,
        make_block: MakeBlock,
        *,
        cross: bool,
        attention: nn.Module,
        upsample: nn.Module,
    ) -> None:
        super().__init__()
        self.init = make_block(width + skip_width, width, cross)
        self.blocks = nn.ModuleList(make_block(width + skip_width, width, cross) for _ in range(num_blocks))
        self.attention = attention
        self.upsample = upsample

    def forward(self, x: Images, skips: list[Tensor], time: Embeddings, context: Context) -> NewImages:
        """Return the map for the next level; takes skip connections off the end of `skips`."""
        for block in (self.init, *self.blocks):
            x = block(torch.cat([x, skips.pop()], dim=1), time, context)
        out: Tensor = self.upsample(attend(self.attention, x))
        return out


def _stem(config: Dalle2UNetConfig) -> nn.Module:
    channels = config.in_channels * (1 + config.low_res + config.self_conditioning)
    if len(config.stem_kernels) > 1:
        return CrossEmbed(channels, config.base_channels, config.stem_kernels, stride=1)
    kernel = config.stem_kernels[0]
    return nn.Conv2d(channels, config.base_channels, kernel, padding=kernel // 2)


def _res_block(
    config: Dalle2UNetConfig, num_groups: int, in_channels: int, out_channels: int, cross: bool
) -> Dalle2ResBlock:
    return Dalle2ResBlock(
        in_channels,
        out_channels,
        4 * config.base_channels,
        num_groups,
        context_dim=config.context_dim if cross else None,
        standardized=config.standardized_weights,
        cosine=config.cosine_cross_attention,
    )


def _self_attention(config: Dalle2UNetConfig, width: int) -> MultiQueryAttention:
    scale = config.head_dim ** (-1.0 if config.squared_attention_scale else -0.5)
    cosine = config.cosine_self_attention
    return MultiQueryAttention(
        width, config.num_heads, config.head_dim, logit_scale=COSINE_SCALE if cosine else scale, cosine=cosine
    )


def _attention(config: Dalle2UNetConfig, level: int, width: int) -> nn.Module:
    if config.self_attention[level]:
        return _self_attention(config, width)
    if not config.linear_attention:
        return nn.Identity()
    return LinearAttention(width, config.num_heads, config.head_dim, normalized=config.normalized_linear_attention)


def _down(config: Dalle2UNetConfig, level: int, make: MakeBlock) -> DownStage:
    first, last = config.levels[level]
    width = last if config.memory_efficient else first
    halve = partial(downsample, config.downsample, out_channels=last, kernels=config.downsample_kernels)
    is_plain = config.memory_efficient or level == len(config.levels) - 1
    return DownStage(
        width,
        config.num_res_blocks[level],
        make,
        cross=level > 0,
        attention=_attention(config, level, width),
        pre=halve(first) if config.memory_efficient else nn.Identity(),
        post=nn.Conv2d(width, last, 1) if is_plain else halve(width),
    )


def _up(config: Dalle2UNetConfig, level: int, make: MakeBlock) -> UpStage:
    first, last = config.levels[level]
    doubles = level > 0 or config.memory_efficient
    return UpStage(
        last,
        last if config.memory_efficient else first,
        config.num_res_blocks[level],
        make,
        cross=level > 0,
        attention=_attention(config, level, last),
        upsample=upsample(config.upsample, last, first) if doubles else nn.Identity(),
    )
