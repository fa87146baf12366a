"""The U-Nets of diffusers and of OpenAI's original code: options, their defaults, and names of tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from unclip.errors import ConfigError
from unclip.interop.options import Table, require
from unclip.interop.rules import Names, Value, heads, under
from unclip.models import DecoderConfig, KandinskyDecoderConfig, UNetConfig, UpsamplerConfig

Shaped: TypeAlias = DecoderConfig | KandinskyDecoderConfig | UpsamplerConfig
BlockKinds: TypeAlias = Mapping[str, Mapping[bool, str]]

# Options of both U-Nets that have one value here.
_FIXED: dict[str, Any] = {
    **dict.fromkeys(("class_embed_type", "num_class_embeds", "time_embedding_dim"), None),
    "act_fn": "silu",
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "time_embedding_type": "positional",
}
# UNet2DConditionModel.
UNET_FIXED = _FIXED | {
    **dict.fromkeys(("addition_time_embed_dim", "cross_attention_norm", "mid_block_only_cross_attention"), None),
    **dict.fromkeys(("num_attention_heads", "projection_class_embeddings_input_dim", "timestep_post_act"), None),
    **dict.fromkeys(("reverse_transformer_layers_per_block", "time_cond_proj_dim", "time_embedding_act_fn"), None),
    **dict.fromkeys(("class_embeddings_concat", "dual_cross_attention", "only_cross_attention"), False),
    **dict.fromkeys(("resnet_skip_time_act", "upcast_attention", "use_linear_projection"), False),
    **dict.fromkeys(("downsample_padding", "transformer_layers_per_block"), 1),
    **dict.fromkeys(("conv_in_kernel", "conv_out_kernel"), 3),
    "addition_embed_type_num_heads": 64,
    "attention_type": "default",
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "resnet_out_scale_factor": 1.0,
    "resnet_time_scale_shift": "scale_shift",
}
UNET_FIELDS: Table = {"head_dim": ("attention_head_dim", 8), "context_dim": ("cross_attention_dim", 1280)}
UNET_DEFAULTS: dict[str, Any] = dict(UNET_FIELDS.values()) | {
    **dict.fromkeys(("sample_size", "encoder_hid_dim", "encoder_hid_dim_type", "addition_embed_type"), None),
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "dropout": 0.0,
    # Their defaults, which our network does not have.
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
}
# By whether there is attention.
UNET_BLOCKS: BlockKinds = {
    "down": {False: "ResnetDownsampleBlock2D", True: "SimpleCrossAttnDownBlock2D"},
    "up": {False: "ResnetUpsampleBlock2D", True: "SimpleCrossAttnUpBlock2D"},
}
# UNet2DModel.
PLAIN_UNET_FIXED = _FIXED | {"add_attention": False, "mid_block_type": "UNetMidBlock2D"}
PLAIN_UNET_DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "dropout": 0.0,
    "resnet_time_scale_shift": "default",
    # BlockKinds without attention, which resample themselves, read none of these.
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "num_train_timesteps": None,
    # Their default, which our network does not have.
    "add_attention": True,
}
# All levels of an upsampler are without attention.
PLAIN_BLOCKS: BlockKinds = {way: {False: kinds[False], True: ""} for way, kinds in UNET_BLOCKS.items()}


def shape_ours(options: Mapping[str, Any], kind: str, in_channels: int) -> dict[str, Any]:
    """Read our fields for the sizes of a U-Net; raises `ConfigError` for sizes that ours cannot have."""
    size, learned = options["sample_size"], options["out_channels"] == 2 * in_channels
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"{kind}: sample_size={size!r} is not possible; it is a whole number from 1.")
    require(kind, options, {"out_channels": (1 + learned) * in_channels})
    return {
        "image_size": size,
        "num_res_blocks": options["layers_per_block"],
        "dropout": options["dropout"],
        "learned_variance": learned,
        "in_channels": in_channels,
        **widths(options["block_out_channels"], kind),
    }


def widths(channels: Sequence[int], kind: str) -> dict[str, Any]:
    """Read our fields for the widths of the levels; raises `ConfigError` unless all are multiples of the first."""
    for width in channels:
        if channels[0] < 1 or width % channels[0]:
            raise ConfigError(f"{kind}: block_out_channels={list(channels)} are not multiples of the first.")
    return {"base_channels": channels[0], "channel_mult": [width // channels[0] for width in channels]}


def attention_levels(options: Mapping[str, Any], kind: str, blocks: BlockKinds) -> list[int]:
    """Find the levels with attention; raises `ConfigError` for other blocks, and unless up is the mirror of down."""
    levels = [level for level, block in enumerate(options["down_block_types"]) if block == blocks["down"][True]]
    expected = block_types(levels, len(options["block_out_channels"]), blocks)
    require(kind, {name: list(options[name]) for name in expected}, expected)
    return levels


def shape_theirs(config: Shaped, attended: Sequence[int], allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Write their options for the sizes of our U-Net, with attention in the levels `attended`.

    Raises `ConfigError` for widths that theirs cannot have, and for fields of other values than the `allowed` ones.
    """
    fields = dict(config) | {"channel_mult[0]": config.channel_mult[0]}
    require(type(config).__name__, fields, {**allowed, "channel_mult[0]": 1})
    return {
        "sample_size": config.image_size,
        "block_out_channels": [config.base_channels * mult for mult in config.channel_mult],
        "layers_per_block": config.num_res_blocks,
        "dropout": config.dropout,
        "out_channels": config.unet().out_channels,
        **block_types(attended, len(config.channel_mult), UNET_BLOCKS),
    }


def block_types(attended: Sequence[int], num_levels: int, blocks: BlockKinds) -> dict[str, list[str]]:
    """Write their two options for blocks, with attention in the levels `attended`."""
    attends = [level in attended for level in range(num_levels)]
    return {
        "down_block_types": [blocks["down"][attend] for attend in attends],
        "up_block_types": [blocks["up"][attend] for attend in reversed(attends)],
    }


# By our layer of a residual block, its names in diffusers and in the original code.
_RES = {
    "norm_1": ("norm1", "in_layers.0"),
    "conv_1": ("conv1", "in_layers.2"),
    "embedding": ("time_emb_proj", "emb_layers.1"),
    "norm_2": ("norm2", "out_layers.0"),
    "conv_2": ("conv2", "out_layers.3"),
    "skip": ("conv_shortcut", "skip_connection"),
}
_RES_DIFFUSERS, _RES_ORIGINAL = ({ours: theirs[way] for ours, theirs in _RES.items()} for way in (0, 1))
_ATTENTION: Names = {
    "norm": "group_norm",
    "qkv": ("to_q", "to_k", "to_v"),
    "context_kv": ("add_k_proj", "add_v_proj"),
    "out": "to_out.0",
}
TIME = under("time_embedding", "time_embedding", {f"linear_{i}": f"linear_{i}" for i in (1, 2)})


def unet_names(config: UNetConfig) -> Names:
    """Name the tensors of `unet` and `time_embedding` as the U-Nets of diffusers do."""
    names: dict[str, Value] = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
    places = [("middle", "mid_block", 2)]
    for level in range(len(config.channel_mult)):
        places += [(f"down.{level}", f"down_blocks.{level}", config.num_res_blocks)]
        places += [(f"up.{level}", f"up_blocks.{level}", config.num_res_blocks + 1)]
    for ours, theirs, num_blocks in places:
        for block in range(num_blocks):
            names |= under(f"{ours}.blocks.{block}.res", f"{theirs}.resnets.{block}", _RES_DIFFUSERS)
            names |= under(f"{ours}.blocks.{block}.attention", f"{theirs}.attentions.{block}", _ATTENTION)
        names |= under(f"{ours}.resample", f"{theirs}.{ours.split('.')[0]}samplers.0", _RES_DIFFUSERS)
    return under("unet", "", names) | TIME


TIME_ORIGINAL = under("time_embedding", "time_embed", {"linear_1": "0", "linear_2": "2"})


def unet_original_names(config: UNetConfig) -> Names:
    """Name the same tensors as the original code does, which numbers the blocks of all levels through."""
    attention: Names = {
        "norm": "norm",
        "qkv": heads("qkv", 3, config.head_dim),
        "context_kv": heads("encoder_kv", 2, config.head_dim),
        "out": "proj_out",
    }
    names: dict[str, Value] = {"conv_in": "input_blocks.0.0", "norm_out": "out.0", "conv_out": "out.2"}
    num_levels, num_down, num_up = len(config.channel_mult), config.num_res_blocks, config.num_res_blocks + 1

    def block(ours: str, theirs: str) -> dict[str, Value]:
        res = under(f"{ours}.res", f"{theirs}.0", _RES_ORIGINAL)
        return res | under(f"{ours}.attention", f"{theirs}.1", attention)

    for level in range(num_levels):
        first = 1 + level * (num_down + 1)
        for index in range(num_down):
            names |= block(f"down.{level}.blocks.{index}", f"input_blocks.{first + index}")
        names |= under(f"down.{level}.resample", f"input_blocks.{first + num_down}.0", _RES_ORIGINAL)
        for index in range(num_up):
            names |= block(f"up.{level}.blocks.{index}", f"output_blocks.{level * num_up + index}")
        # The way up begins at the coarsest level.
        attends = num_levels - 1 - level in config.attention_levels
        theirs = f"output_blocks.{level * num_up + num_up - 1}.{2 if attends else 1}"
        names |= under(f"up.{level}.resample", theirs, _RES_ORIGINAL)
    names |= block("middle.blocks.0", "middle_block")
    last = 2 if config.attention_levels else 1
    names |= under("middle.blocks.1.res", f"middle_block.{last}", _RES_ORIGINAL)
    return under("unet", "", names) | TIME_ORIGINAL
