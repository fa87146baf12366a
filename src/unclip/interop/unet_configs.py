"""What the U-Nets of diffusers say of themselves: options, defaults, blocks. Knows no tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from unclip.errors import ConfigError
from unclip.interop.options import require
from unclip.models import DecoderConfig, KandinskyDecoderConfig, UpsamplerConfig

Shaped: TypeAlias = DecoderConfig | KandinskyDecoderConfig | UpsamplerConfig

UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "scale_shift",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
    "upcast_attention": False,
    "use_linear_projection": False,
}
UNET_DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "dropout": 0.0,
    "cross_attention_dim": 1280,
    "attention_head_dim": 8,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "addition_embed_type": None,
    # What they take for granted, but we do not have.
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
}
# By whether there is attention.
UNET_BLOCKS = {
    "down": {False: "ResnetDownsampleBlock2D", True: "SimpleCrossAttnDownBlock2D"},
    "up": {False: "ResnetUpsampleBlock2D", True: "SimpleCrossAttnUpBlock2D"},
}
PLAIN_UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "add_attention": False,
    "center_input_sample": False,
    "class_embed_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
}
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
    # Blocks without attention, which resample themselves, read none of these.
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "num_train_timesteps": None,
    # What they take for granted, but we do not have.
    "add_attention": True,
}


def widths(channels: Sequence[int], kind: str) -> dict[str, Any]:
    """Our two fields for the widths of the levels; raises `ConfigError` unless all are multiples of the first."""
    for width in channels:
        if channels[0] < 1 or width % channels[0]:
            raise ConfigError(f"{kind}: block_out_channels={list(channels)} are not multiples of the first.")
    return {"base_channels": channels[0], "channel_mult": [width // channels[0] for width in channels]}


def learned_variance(found: Mapping[str, Any], kind: str, in_channels: int) -> bool:
    """Whether the output has twice the channels of a picture; raises `ConfigError` unless it has those or as many."""
    learned = found["out_channels"] == 2 * in_channels
    require(kind, "out_channels", found["out_channels"], (1 + learned) * in_channels)
    return learned


def shape_theirs(ours: Shaped, attended: Sequence[int]) -> dict[str, Any]:
    """Their options for the sizes of a U-Net of ours; raises `ConfigError` for widths that theirs cannot have."""
    require(type(ours).__name__, "channel_mult[0]", ours.channel_mult[0], 1)
    return {
        "sample_size": ours.image_size,
        "block_out_channels": [ours.base_channels * mult for mult in ours.channel_mult],
        "layers_per_block": ours.num_res_blocks,
        "dropout": ours.dropout,
        "out_channels": ours.unet().out_channels,
        **block_types(attended, len(ours.channel_mult), UNET_BLOCKS),
    }


def attention_levels(found: Mapping[str, Any], kind: str, blocks: Mapping[str, Mapping[bool, str]]) -> list[int]:
    """Levels with attention; raises `ConfigError` for other blocks, and where up is not the mirror of down."""
    levels = [level for level, block in enumerate(found["down_block_types"]) if block == blocks["down"][True]]
    for name, expected in block_types(levels, len(found["block_out_channels"]), blocks).items():
        require(kind, name, list(found[name]), expected)
    return levels


def block_types(
    attended: Sequence[int], num_levels: int, blocks: Mapping[str, Mapping[bool, str]]
) -> dict[str, list[str]]:
    """Their two options for levels of which those in `attended` have attention."""
    attends = [level in attended for level in range(num_levels)]
    return {
        "down_block_types": [blocks["down"][there] for there in attends],
        "up_block_types": [blocks["up"][there] for there in reversed(attends)],
    }
