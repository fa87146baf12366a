"""unCLIP pipelines of diffusers: configurations and tensor names."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop.options import read_options, require, require_all
from unclip.interop.rules import Names, Value, heads, row, tokens, under
from unclip.interop.unet_configs import (
    PLAIN_UNET_DEFAULTS,
    PLAIN_UNET_FIXED,
    UNET_BLOCKS,
    UNET_DEFAULTS,
    UNET_FIXED,
    attention_levels,
    learned_variance,
    shape_theirs,
    widths,
)
from unclip.models import DecoderConfig, PriorConfig, UNetConfig, UpsamplerConfig

Theirs = Mapping[str, Any]

_PRIOR = "PriorTransformer"
_PRIOR_FIXED = {
    "additional_embeddings": 4,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}
_PRIOR_DEFAULTS = {
    "num_attention_heads": 32,
    "attention_head_dim": 64,
    "num_layers": 20,
    "embedding_dim": 768,
    "num_embeddings": 77,
    "dropout": 0.0,
    "time_embed_dim": None,
    "embedding_proj_dim": None,
    "clip_embed_dim": None,
}
_UNET, _PLAIN_UNET, _PROJECTIONS = "UNet2DConditionModel", "UNet2DModel", "UnCLIPTextProjModel"
# The projections of the image embedding, beside the U-Net, add to its time embedding.
_DECODER_FIXED = {
    **{name: value for name, value in UNET_FIXED.items() if name != "mid_block_type"},
    "class_embed_type": "identity",
    "addition_embed_type": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}
_PROJECTION_DEFAULTS = {
    "clip_extra_context_tokens": 4,
    "clip_embeddings_dim": 768,
    "time_embed_dim": None,
    "cross_attention_dim": None,
}
_CONDITIONING = {"default": "additive", "scale_shift": "adaptive"}
# Attention nowhere: an upsampler's levels are all of the first kind.
_PLAIN_BLOCKS = {way: {False: kinds[False], True: ""} for way, kinds in UNET_BLOCKS.items()}


def prior_config(theirs: Theirs) -> PriorConfig:
    """Ours from the config of diffusers' `PriorTransformer`; raises `ConfigError` for options that ours has not."""
    found = read_options(theirs, _PRIOR, _PRIOR_FIXED, _PRIOR_DEFAULTS)
    width = found["num_attention_heads"] * found["attention_head_dim"]
    for name, allowed in {"time_embed_dim": width, "clip_embed_dim": found["embedding_dim"]}.items():
        require(_PRIOR, name, found[name] or allowed, allowed)
    fields = {
        "embedding_dim": found["embedding_dim"],
        "text_embedding_dim": found["embedding_proj_dim"],
        "num_text_tokens": found["num_embeddings"],
        "width": width,
        "depth": found["num_layers"],
        "num_heads": found["num_attention_heads"],
        "dropout": found["dropout"],
    }
    return load_config(PriorConfig, fields)


def prior_config_theirs(ours: PriorConfig) -> dict[str, Any]:
    """The config of diffusers' `PriorTransformer` from ours; raises `ConfigError` for fields that theirs has not."""
    text_dim = ours.text_dim or ours.embedding_dim
    options = {
        "ff_mult": (ours.ff_mult, 4),
        "text_dim": (text_dim, ours.embedding_dim),
        "self_conditioning": (ours.self_conditioning, False),
    }
    require_all("PriorConfig", options | ({} if ours.num_text_tokens else {"num_text_tokens": (0, 77)}))
    return {
        "_class_name": _PRIOR,
        **_PRIOR_FIXED,
        **_PRIOR_DEFAULTS,
        "num_attention_heads": ours.num_heads,
        "attention_head_dim": ours.width // ours.num_heads,
        "num_layers": ours.depth,
        "embedding_dim": ours.embedding_dim,
        "num_embeddings": ours.num_text_tokens,
        "dropout": ours.dropout,
        "embedding_proj_dim": ours.text_embedding_dim,
    }


def decoder_config(unet: Theirs, projections: Theirs) -> DecoderConfig:
    """Ours from the configs of the decoder's `UNet2DConditionModel` and its `UnCLIPTextProjModel`.

    Raises `ConfigError` for options that ours has not.
    """
    found = read_options(unet, _UNET, _DECODER_FIXED, UNET_DEFAULTS, ["sample_size"])
    beside = read_options(projections, _PROJECTIONS, {}, _PROJECTION_DEFAULTS)
    shape, size = widths(found["block_out_channels"], _UNET), found["sample_size"]
    require(_PROJECTIONS, "time_embed_dim", beside["time_embed_dim"], 4 * shape["base_channels"])
    require(_PROJECTIONS, "cross_attention_dim", beside["cross_attention_dim"], found["cross_attention_dim"])
    fields = {
        "image_size": size,
        "embedding_dim": beside["clip_embeddings_dim"],
        "text_dim": beside["clip_embeddings_dim"],
        "num_res_blocks": found["layers_per_block"],
        "attention_resolutions": [size // 2**level for level in attention_levels(found, _UNET, UNET_BLOCKS)],
        "head_dim": found["attention_head_dim"],
        "num_image_tokens": beside["clip_extra_context_tokens"],
        "context_dim": found["cross_attention_dim"],
        "dropout": found["dropout"],
        "learned_variance": learned_variance(found, _UNET, found["in_channels"]),
        "in_channels": found["in_channels"],
        **shape,
    }
    return load_config(DecoderConfig, fields)


def decoder_config_theirs(ours: DecoderConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse of `decoder_config`; raises `ConfigError` for fields that theirs have not."""
    kind, trunk = "DecoderConfig", ours.unet()
    options = {
        "patch_size": (ours.patch_size, 1),
        "text_dim": (ours.text_dim, ours.embedding_dim),
        "text_transformer": (ours.text_transformer, None),
        "self_conditioning": (ours.self_conditioning, False),
        "channel_mult[0]": (ours.channel_mult[0], 1),
    }
    require_all(kind, options)
    unet = {
        "_class_name": _UNET,
        **UNET_DEFAULTS,
        **_DECODER_FIXED,
        **shape_theirs(ours, trunk.attention_levels),
        "in_channels": ours.in_channels,
        "cross_attention_dim": ours.context_dim,
        "attention_head_dim": ours.head_dim,
    }
    projections = {
        "_class_name": _PROJECTIONS,
        "clip_embeddings_dim": ours.embedding_dim,
        "clip_extra_context_tokens": ours.num_image_tokens,
        "cross_attention_dim": ours.context_dim,
        "time_embed_dim": trunk.embedding_dim,
    }
    return unet, projections


def upsampler_config(theirs: Theirs, low_res_size: int) -> UpsamplerConfig:
    """Ours from the config of an upsampler's `UNet2DModel`; raises `ConfigError` for options that ours has not."""
    found = read_options(theirs, _PLAIN_UNET, PLAIN_UNET_FIXED, PLAIN_UNET_DEFAULTS, ["sample_size"])
    attention_levels(found, _PLAIN_UNET, _PLAIN_BLOCKS)
    if found["in_channels"] % 2 or found["resnet_time_scale_shift"] not in _CONDITIONING:
        raise ConfigError(f"{_PLAIN_UNET}: this is no upsampler of unCLIP, which takes two pictures; give one.")
    in_channels = found["in_channels"] // 2
    fields = {
        "image_size": found["sample_size"],
        "low_res_size": low_res_size,
        "num_res_blocks": found["layers_per_block"],
        "conditioning": _CONDITIONING[found["resnet_time_scale_shift"]],
        "dropout": found["dropout"],
        "learned_variance": learned_variance(found, _PLAIN_UNET, in_channels),
        "in_channels": in_channels,
        **widths(found["block_out_channels"], _PLAIN_UNET),
    }
    return load_config(UpsamplerConfig, fields)


def upsampler_config_theirs(ours: UpsamplerConfig) -> dict[str, Any]:
    """The inverse of `upsampler_config`; raises `ConfigError` for fields that theirs has not."""
    options = {
        "patch_size": (ours.patch_size, 1),
        "norm": (ours.norm, "group"),
        "residual": (ours.residual, False),
        "noise_conditioning": (ours.noise_conditioning, False),
        "channel_mult[0]": (ours.channel_mult[0], 1),
    }
    require_all("UpsamplerConfig", options)
    return {
        "_class_name": _PLAIN_UNET,
        **PLAIN_UNET_DEFAULTS,
        **PLAIN_UNET_FIXED,
        **shape_theirs(ours, ()),
        "in_channels": 2 * ours.in_channels,
        "resnet_time_scale_shift": {name: theirs for theirs, name in _CONDITIONING.items()}[ours.conditioning],
    }


TIME = {f"linear_{i}": f"linear_{i}" for i in (1, 2)}
TIME_ORIGINAL = {"linear_1": "0", "linear_2": "2"}
RES = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "embedding": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}
RES_ORIGINAL = {
    "norm_1": "in_layers.0",
    "conv_1": "in_layers.2",
    "embedding": "emb_layers.1",
    "norm_2": "out_layers.0",
    "conv_2": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION: Names = {
    "norm": "group_norm",
    "qkv": ("to_q", "to_k", "to_v"),
    "context_kv": ("add_k_proj", "add_v_proj"),
    "out": "to_out.0",
}
PRIOR_BLOCK: Names = {
    "norm_1": "norm1",
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "out": "attn1.to_out.0",
    "norm_2": "norm3",
    "ff_in": "ff.net.0.proj",
    "ff_out": "ff.net.2",
}


def prior_names(config: PriorConfig) -> Names:
    """`Prior` in diffusers' `PriorTransformer`."""
    names: dict[str, Value] = {
        "embedding_mean": row("clip_mean"),
        "embedding_std": row("clip_std"),
        "query": "prd_embedding",
        "positions": "positional_embedding",
        "text_tokens": "encoder_hidden_states_proj",
        "text_embedding": "embedding_proj",
        "noised_embedding": "proj_in",
        "norm_out": "norm_out",
        "out": "proj_to_clip_embeddings",
        **under("time_embedding", "time_embedding", TIME),
    }
    for index in range(config.depth):
        names |= under(f"blocks.{index}", f"transformer_blocks.{index}", PRIOR_BLOCK)
    return names


def prior_original_names(config: PriorConfig) -> Names:
    """`Prior` in the original code, but for the statistics, which are kept in a file of their own."""
    block: Names = {
        "norm_1": "ln_1",
        "qkv": heads("attn.c_qkv", 3, config.width // config.num_heads),
        "out": "attn.c_proj",
        "norm_2": "ln_2",
        "ff_in": "mlp.c_fc",
        "ff_out": "mlp.c_proj",
    }
    names: dict[str, Value] = {
        "query": "prd_emb",
        "positions": "positional_embedding",
        "text_tokens": "text_enc_proj",
        "text_embedding": "text_emb_proj",
        "noised_embedding": "clip_img_proj",
        "norm_out": "final_ln",
        "out": "out_proj",
        **under("time_embedding", "time_embed", TIME_ORIGINAL),
    }
    for index in range(config.depth):
        names |= under(f"blocks.{index}", f"transformer.resblocks.{index}", block)
    return names


def decoder_names(config: DecoderConfig) -> Names:
    """`Decoder` in diffusers: the U-Net under "decoder", `UnCLIPTextProjModel` under "text_proj"."""
    projections: Names = {
        "null_image_embedding": "learned_classifier_free_guidance_embeddings",
        "image_embedding": "clip_image_embeddings_project_to_time_embeddings",
        "image_tokens": tokens("clip_extra_context_tokens_proj", config.num_image_tokens),
        "text_embedding": "embedding_proj",
        "text_tokens": "encoder_hidden_states_proj",
        "text_norm": "text_encoder_hidden_states_norm",
    }
    trunk = {**under("unet", "", unet_names(config.unet())), **under("time_embedding", "time_embedding", TIME)}
    return {**under("", "text_proj", projections), **under("", "decoder", trunk)}


def decoder_original_names(config: DecoderConfig) -> Names:
    """`Decoder` in the original code."""
    return {
        "null_image_embedding": "cf_param",
        "image_embedding": "clip_emb",
        "image_tokens": tokens("clip_tok_proj", config.num_image_tokens),
        "text_embedding": "text_feat_proj",
        "text_tokens": "text_seq_proj.0",
        "text_norm": "text_seq_proj.1",
        **under("unet", "", unet_original_names(config.unet())),
        **under("time_embedding", "time_embed", TIME_ORIGINAL),
    }


def upsampler_names(trunk: UNetConfig) -> Names:
    """`Upsampler` in diffusers' `UNet2DModel`."""
    return {**under("unet", "", unet_names(trunk)), **under("time_embedding", "time_embedding", TIME)}


def upsampler_original_names(trunk: UNetConfig) -> Names:
    """`Upsampler` in the original code."""
    return {**under("unet", "", unet_original_names(trunk)), **under("time_embedding", "time_embed", TIME_ORIGINAL)}


def unet_names(config: UNetConfig) -> Names:
    """`UNet` in the U-Nets of diffusers."""
    names: dict[str, Value] = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
    places = [("middle", "mid_block", 2)]
    for level in range(len(config.channel_mult)):
        places += [(f"down.{level}", f"down_blocks.{level}", config.num_res_blocks)]
        places += [(f"up.{level}", f"up_blocks.{level}", config.num_res_blocks + 1)]
    for ours, theirs, num_blocks in places:
        for block in range(num_blocks):
            names |= under(f"{ours}.blocks.{block}.res", f"{theirs}.resnets.{block}", RES)
            names |= under(f"{ours}.blocks.{block}.attention", f"{theirs}.attentions.{block}", ATTENTION)
        names |= under(f"{ours}.resample", f"{theirs}.{ours.split('.')[0]}samplers.0", RES)
    return names


def unet_original_names(config: UNetConfig) -> Names:
    """`UNet` in the original code, which numbers the blocks of all levels through."""
    attention: Names = {
        "norm": "norm",
        "qkv": heads("qkv", 3, config.head_dim),
        "context_kv": heads("encoder_kv", 2, config.head_dim),
        "out": "proj_out",
    }
    names: dict[str, Value] = {"conv_in": "input_blocks.0.0", "norm_out": "out.0", "conv_out": "out.2"}
    num_levels, num_down, num_up = len(config.channel_mult), config.num_res_blocks, config.num_res_blocks + 1

    def block(ours: str, theirs: str) -> dict[str, Value]:
        res = under(f"{ours}.res", f"{theirs}.0", RES_ORIGINAL)
        return res | under(f"{ours}.attention", f"{theirs}.1", attention)

    for level in range(num_levels):
        first = 1 + level * (num_down + 1)
        for index in range(num_down):
            names |= block(f"down.{level}.blocks.{index}", f"input_blocks.{first + index}")
        names |= under(f"down.{level}.resample", f"input_blocks.{first + num_down}.0", RES_ORIGINAL)
        for index in range(num_up):
            names |= block(f"up.{level}.blocks.{index}", f"output_blocks.{level * num_up + index}")
        # The way up begins at the coarsest level.
        attends = num_levels - 1 - level in config.attention_levels
        theirs = f"output_blocks.{level * num_up + num_up - 1}.{2 if attends else 1}"
        names |= under(f"up.{level}.resample", theirs, RES_ORIGINAL)
    last = 2 if config.attention_levels else 1
    names |= block("middle.blocks.0", "middle_block")
    return names | under("middle.blocks.1.res", f"middle_block.{last}", RES_ORIGINAL)
