"""The autoencoder (MoVQ, VQGAN) of other libraries: its config, and the names of its tensors."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.interop.options import Table, fields_of, read_options, require
from unclip.interop.rules import Names, Value, under
from unclip.interop.unets import BlockKinds, attention_levels, widths
from unclip.models import AutoencoderConfig

_VQ = "VQModel"
VQ_FIXED = {"act_fn": "silu", "norm_num_groups": 32, "lookup_from_codebook": False, "force_upcast": False}
VQ_FIELDS: Table = {
    "in_channels": ("in_channels", 3),
    "num_res_blocks": ("layers_per_block", 1),
    "middle_attention": ("mid_block_add_attention", True),
    "bottleneck_channels": ("latent_channels", 3),
    "codebook_size": ("num_vq_embeddings", 256),
    "norm": ("norm_type", "group"),
}
VQ_DEFAULTS = dict(VQ_FIELDS.values()) | {
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
    "vq_embed_dim": None,
    # Nothing in the network depends on these.
    "sample_size": 32,
    "scaling_factor": 0.18215,
}
# By whether there is attention.
VQ_BLOCKS: BlockKinds = {
    "down": {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"},
    "up": {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"},
}


def autoencoder_config(theirs: Mapping[str, Any]) -> AutoencoderConfig:
    """Read the config of diffusers' `VQModel`; raises `ConfigError` for options that ours does not have.

    `scaling_factor` is left out: it is a default there, and Kandinsky's decoders sample the latents as they are.
    """
    options = read_options(theirs, _VQ, VQ_FIXED, VQ_DEFAULTS)
    require(_VQ, options, {"out_channels": options["in_channels"]})
    fields = {
        "attention_levels": attention_levels(options, _VQ, VQ_BLOCKS),
        "latent_channels": options["vq_embed_dim"] or options["latent_channels"],
        **fields_of(options, VQ_FIELDS),
        **widths(options["block_out_channels"], _VQ),
    }
    return load_config(AutoencoderConfig, fields)


# By part of the network, its name in diffusers and in VQGAN's own code; {index} counts in the order of use, {level}
# from the finest.
_SPELLINGS = {
    "down": ("down_blocks.{index}", "down.{level}"),
    "up": ("up_blocks.{index}", "up.{level}"),
    "middle_res": ("mid_block.resnets.{block}", "mid.block_{number}"),
    "middle_attention": ("mid_block.attentions.0", "mid.attn_1"),
    "res": ("resnets", "block"),
    "attention": ("attentions", "attn"),
    "down_resample": ("downsamplers.0.conv", "downsample.conv"),
    "up_resample": ("upsamplers.0.conv", "upsample.conv"),
    "norm_out": ("conv_norm_out", "norm_out"),
    "skip": ("conv_shortcut", "nin_shortcut"),
    "group_norm": ("group_norm", "norm"),
    "spatial_norm": ("spatial_norm", "norm"),
    "q": ("to_q", "q"),
    "k": ("to_k", "k"),
    "v": ("to_v", "v"),
    "out": ("to_out.0", "proj_out"),
}


def movq_names(config: AutoencoderConfig) -> Names:
    """Name the modules of `Autoencoder(config)` as diffusers' `VQModel` does, also blocks that `config` leaves out."""
    return _names(config, {part: name for part, (name, _) in _SPELLINGS.items()})


def movq_original_names(config: AutoencoderConfig) -> Names:
    """Name them as VQGAN's own code does, whose checkpoints are such as Kandinsky 2.1's `movq_final.ckpt`."""
    return _names(config, {part: name for part, (_, name) in _SPELLINGS.items()})


def _names(config: AutoencoderConfig, spelling: Mapping[str, str]) -> dict[str, Value]:
    names: dict[str, Value] = {
        "pre_quantize": "quant_conv",
        "codebook": "quantize.embedding.weight",
        "post_quantize": "post_quant_conv",
    }
    num_levels, num_blocks = len(config.channel_mult), config.num_res_blocks
    for half, way, depth in (("encoder", "down", num_blocks), ("decoder", "up", num_blocks + 1)):
        spatial = half == "decoder" and config.norm == "spatial"
        res: Names = {
            **_norm("norm_1", "norm1", spatial),
            "conv_1": "conv1",
            **_norm("norm_2", "norm2", spatial),
            "conv_2": "conv2",
            "skip": spelling["skip"],
        }
        attention: Names = {
            **_norm("norm", spelling["spatial_norm" if spatial else "group_norm"], spatial),
            "qkv": (spelling["q"], spelling["k"], spelling["v"]),
            "out": spelling["out"],
        }
        parts: dict[str, Value] = {"conv_in": "conv_in", "conv_out": "conv_out"}
        parts |= _norm("norm_out", spelling["norm_out"], spatial)
        parts |= under("middle.blocks.0.attention", spelling["middle_attention"], attention)
        for block in range(2):
            theirs = spelling["middle_res"].format(block=block, number=block + 1)
            parts |= under(f"middle.blocks.{block}.res", theirs, res)
        for index in range(num_levels):
            level = index if way == "down" else num_levels - 1 - index
            ours, theirs = f"{way}.{index}", spelling[way].format(index=index, level=level)
            for block in range(depth):
                parts |= under(f"{ours}.blocks.{block}.res", f"{theirs}.{spelling['res']}.{block}", res)
                part = f"{theirs}.{spelling['attention']}.{block}"
                parts |= under(f"{ours}.blocks.{block}.attention", part, attention)
            parts[f"{ours}.resample"] = f"{theirs}.{spelling[f'{way}_resample']}"
        names |= under(half, half, parts)
    return names


def _norm(ours: str, theirs: str, spatial: bool) -> dict[str, Value]:
    if not spatial:
        return {f"{ours}.norm": theirs}
    return {f"{ours}.norm": f"{theirs}.norm_layer", f"{ours}.scale_shift": (f"{theirs}.conv_y", f"{theirs}.conv_b")}
