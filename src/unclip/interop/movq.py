"""The autoencoder (MoVQ, VQGAN) of other libraries: its config, and the names of its tensors."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.interop.options import read_options, require
from unclip.interop.rules import Names, Value, under
from unclip.interop.unets import Blocks, attention_levels, widths
from unclip.models import AutoencoderConfig

_VQ = "VQModel"
VQ_FIXED = {"act_fn": "silu", "norm_num_groups": 32, "lookup_from_codebook": False, "force_upcast": False}
VQ_DEFAULTS = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
    "layers_per_block": 1,
    "latent_channels": 3,
    "num_vq_embeddings": 256,
    "vq_embed_dim": None,
    "norm_type": "group",
    "mid_block_add_attention": True,
    # Nothing in the network depends on these.
    "sample_size": 32,
    "scaling_factor": 0.18215,
}
# By whether there is attention.
VQ_BLOCKS: Blocks = {
    "down": {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"},
    "up": {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"},
}


def autoencoder_config(theirs: Mapping[str, Any]) -> AutoencoderConfig:
    """Read the config of diffusers' `VQModel`; raises `ConfigError` for options that ours does not have.

    `scaling_factor` is left out: it is a default there, and Kandinsky's decoders sample the latents as they are.
    """
    options = read_options(theirs, _VQ, VQ_FIXED, VQ_DEFAULTS)
    require(_VQ, "out_channels", options["out_channels"], options["in_channels"])
    fields = {
        "attention_levels": attention_levels(options, _VQ, VQ_BLOCKS),
        "num_res_blocks": options["layers_per_block"],
        "middle_attention": options["mid_block_add_attention"],
        "bottleneck_channels": options["latent_channels"],
        "latent_channels": options["vq_embed_dim"] or options["latent_channels"],
        "codebook_size": options["num_vq_embeddings"],
        "norm": options["norm_type"],
        "in_channels": options["in_channels"],
    }
    return load_config(AutoencoderConfig, fields | widths(options["block_out_channels"], _VQ))


# By part of the network, its name in diffusers and in VQGAN's own code; {index} counts in the order of use, {level}
# from the finest.
_SPELLINGS = {
    "down": ("down_blocks.{index}", "down.{level}"),
    "up": ("up_blocks.{index}", "up.{level}"),
    "middle_res": ("mid_block.resnets.{block}", "mid.block_{number}"),
    "middle_attention": ("mid_block.attentions.0", "mid.attn_1"),
    "res": ("resnets", "block"),
    "attention": ("attentions", "attn"),
    "halve": ("downsamplers.0.conv", "downsample.conv"),
    "double": ("upsamplers.0.conv", "upsample.conv"),
    "norm_out": ("conv_norm_out", "norm_out"),
    "skip": ("conv_shortcut", "nin_shortcut"),
    "group_norm": ("group_norm", "norm"),
    "spatial_norm": ("spatial_norm", "norm"),
    "q": ("to_q", "q"),
    "k": ("to_k", "k"),
    "v": ("to_v", "v"),
    "out": ("to_out.0", "proj_out"),
}
_Spelling = Mapping[str, str]


def movq_names(config: AutoencoderConfig) -> Names:
    """Name every module of `Autoencoder(config)` that has weights as diffusers' `VQModel` does."""
    return _names(config, {part: name for part, (name, _) in _SPELLINGS.items()})


def movq_original_names(config: AutoencoderConfig) -> Names:
    """Name them as VQGAN's own code does, whose checkpoints are such as Kandinsky 2.1's `movq_final.ckpt`."""
    return _names(config, {part: name for part, (_, name) in _SPELLINGS.items()})


def _names(config: AutoencoderConfig, spelling: _Spelling) -> dict[str, Value]:
    names: dict[str, Value] = {
        "pre_quantize": "quant_conv",
        "codebook": "quantize.embedding.weight",
        "post_quantize": "post_quant_conv",
    }
    for half in ("encoder", "decoder"):
        spatial = half == "decoder" and config.norm == "spatial"
        names |= under(half, half, _ends(config, spelling, spatial))
        names |= under(half, half, _levels(config, spelling, spatial, up=half == "decoder"))
    return names


def _ends(config: AutoencoderConfig, spelling: _Spelling, spatial: bool) -> dict[str, Value]:
    """Name all parts of encoder or decoder but the levels."""
    names: dict[str, Value] = {"conv_in": "conv_in", "conv_out": "conv_out"}
    names |= _norm("norm_out", spelling["norm_out"], spatial)
    for block in range(2):
        theirs = spelling["middle_res"].format(block=block, number=block + 1)
        names |= under(f"middle.blocks.{block}.res", theirs, _res(spelling, spatial, skip=False))
    if config.middle_attention:
        names |= under("middle.blocks.0.attention", spelling["middle_attention"], _attention(spelling, spatial))
    return names


def _levels(config: AutoencoderConfig, spelling: _Spelling, spatial: bool, up: bool) -> dict[str, Value]:
    """Name the levels of encoder (down) or decoder (up), which are visited in different order."""
    names: dict[str, Value] = {}
    visited = list(enumerate(config.widths))[:: -1 if up else 1]
    before, way = visited[0][1], "up" if up else "down"
    for index, (level, width) in enumerate(visited):
        ours, theirs = f"{way}.{index}", spelling[way].format(index=index, level=level)
        for block in range(config.num_res_blocks + up):
            res = _res(spelling, spatial, skip=block == 0 and width != before)
            names |= under(f"{ours}.blocks.{block}.res", f"{theirs}.{spelling['res']}.{block}", res)
            if level in config.attention_levels:
                part = f"{theirs}.{spelling['attention']}.{block}"
                names |= under(f"{ours}.blocks.{block}.attention", part, _attention(spelling, spatial))
        if index < len(visited) - 1:
            names[f"{ours}.resample"] = f"{theirs}.{spelling['double' if up else 'halve']}"
        before = width
    return names


def _res(spelling: _Spelling, spatial: bool, skip: bool) -> dict[str, Value]:
    names: dict[str, Value] = {"conv_1": "conv1", "conv_2": "conv2"}
    names |= _norm("norm_1", "norm1", spatial) | _norm("norm_2", "norm2", spatial)
    return names | ({"skip": spelling["skip"]} if skip else {})


def _attention(spelling: _Spelling, spatial: bool) -> dict[str, Value]:
    names = _norm("norm", spelling["spatial_norm" if spatial else "group_norm"], spatial)
    return names | {"qkv": tuple(spelling[part] for part in "qkv"), "out": spelling["out"]}


def _norm(ours: str, theirs: str, spatial: bool) -> dict[str, Value]:
    if not spatial:
        return {f"{ours}.norm": theirs}
    return {f"{ours}.norm": f"{theirs}.norm_layer", f"{ours}.scale_shift": (f"{theirs}.conv_y", f"{theirs}.conv_b")}
