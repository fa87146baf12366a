"""What other libraries call the parts of our autoencoder. Knows names only; reads no file and moves no tensor."""

from typing import NamedTuple

from unclip.models import AutoencoderConfig

Names = dict[str, str | tuple[str, ...]]


class Spelling(NamedTuple):
    """Names of the parts in one kind of checkpoint; {index} counts in the order of use, {level} from the finest."""

    down: str
    up: str
    middle_res: tuple[str, str]
    middle_attention: str
    res: str
    attention: str
    halve: str
    double: str
    norm_out: str
    skip: str
    group_norm: str
    spatial_norm: str
    qkv: tuple[str, ...]
    out: str


_DIFFUSERS = Spelling(
    down="down_blocks.{index}",
    up="up_blocks.{index}",
    middle_res=("mid_block.resnets.0", "mid_block.resnets.1"),
    middle_attention="mid_block.attentions.0",
    res="resnets",
    attention="attentions",
    halve="downsamplers.0.conv",
    double="upsamplers.0.conv",
    norm_out="conv_norm_out",
    skip="conv_shortcut",
    group_norm="group_norm",
    spatial_norm="spatial_norm",
    qkv=("to_q", "to_k", "to_v"),
    out="to_out.0",
)

_ORIGINAL = Spelling(
    down="down.{level}",
    up="up.{level}",
    middle_res=("mid.block_1", "mid.block_2"),
    middle_attention="mid.attn_1",
    res="block",
    attention="attn",
    halve="downsample.conv",
    double="upsample.conv",
    norm_out="norm_out",
    skip="nin_shortcut",
    group_norm="norm",
    spatial_norm="norm",
    qkv=("q", "k", "v"),
    out="proj_out",
)


def movq_names(config: AutoencoderConfig) -> Names:
    """The names in diffusers' `VQModel` of every module of `Autoencoder(config)` that has weights.

    Keys are our modules, or our parameter for the codebook, and values theirs; a tuple is joined along the rows.
    Shapes may differ in trailing axes of size 1.
    """
    return _names(config, _DIFFUSERS)


def movq_original_names(config: AutoencoderConfig) -> Names:
    """The same for checkpoints of VQGAN's own code, such as Kandinsky 2.1's `movq_final.ckpt`."""
    return _names(config, _ORIGINAL)


def _names(config: AutoencoderConfig, spelling: Spelling) -> Names:
    names: Names = {
        "pre_quantize": "quant_conv",
        "codebook": "quantize.embedding.weight",
        "post_quantize": "post_quant_conv",
    }
    for half in ("encoder", "decoder"):
        spatial = half == "decoder" and config.norm == "spatial"
        names |= _under(half, half, _ends(config, spelling, spatial))
        names |= _under(half, half, _levels(config, spelling, spatial, up=half == "decoder"))
    return names


def _ends(config: AutoencoderConfig, spelling: Spelling, spatial: bool) -> Names:
    """Names in encoder or decoder of all but the levels."""
    names: Names = {"conv_in": "conv_in", "conv_out": "conv_out"}
    names |= _norm("norm_out", spelling.norm_out, spatial)
    for block, theirs in enumerate(spelling.middle_res):
        names |= _under(f"middle.blocks.{block}.res", theirs, _res(spelling, spatial, skip=False))
    if config.middle_attention:
        names |= _under("middle.blocks.0.attention", spelling.middle_attention, _attention(spelling, spatial))
    return names


def _levels(config: AutoencoderConfig, spelling: Spelling, spatial: bool, up: bool) -> Names:
    """Names in encoder (down) or decoder (up) of the levels, which are visited in different order."""
    names: Names = {}
    visited = list(enumerate(config.widths))[:: -1 if up else 1]
    before = visited[0][1]
    for index, (level, width) in enumerate(visited):
        ours = f"{'up' if up else 'down'}.{index}"
        theirs = (spelling.up if up else spelling.down).format(index=index, level=level)
        for block in range(config.num_res_blocks + up):
            res = _res(spelling, spatial, skip=block == 0 and width != before)
            names |= _under(f"{ours}.blocks.{block}.res", f"{theirs}.{spelling.res}.{block}", res)
            if level in config.attention_levels:
                attention = _attention(spelling, spatial)
                names |= _under(f"{ours}.blocks.{block}.attention", f"{theirs}.{spelling.attention}.{block}", attention)
        if index < len(visited) - 1:
            names[f"{ours}.resample"] = f"{theirs}.{spelling.double if up else spelling.halve}"
        before = width
    return names


def _res(spelling: Spelling, spatial: bool, skip: bool) -> Names:
    names: Names = {"conv_1": "conv1", "conv_2": "conv2"}
    names |= _norm("norm_1", "norm1", spatial) | _norm("norm_2", "norm2", spatial)
    return names | ({"skip": spelling.skip} if skip else {})


def _attention(spelling: Spelling, spatial: bool) -> Names:
    names = _norm("norm", spelling.spatial_norm if spatial else spelling.group_norm, spatial)
    return names | {"qkv": spelling.qkv, "out": spelling.out}


def _norm(ours: str, theirs: str, spatial: bool) -> Names:
    if not spatial:
        return {f"{ours}.norm": theirs}
    return {f"{ours}.norm": f"{theirs}.norm_layer", f"{ours}.scale_shift": (f"{theirs}.conv_y", f"{theirs}.conv_b")}


def _under(ours: str, theirs: str, names: Names) -> Names:
    """The map `names` of a part that is called `ours` here and `theirs` there."""
    return {
        f"{ours}.{key}": f"{theirs}.{value}" if isinstance(value, str) else tuple(f"{theirs}.{name}" for name in value)
        for key, value in names.items()
    }
