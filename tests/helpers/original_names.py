"""State dicts of diffusers' networks with the names and layouts of the code that they were converted from."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]

TIME = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
ENDS = {"conv_norm_out": "out.0", "conv_out": "out.2"}
RES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "group_norm": "norm",
    "to_out.0": "proj_out",
}
PRIOR = {
    "proj_in": "clip_img_proj",
    "embedding_proj": "text_emb_proj",
    "encoder_hidden_states_proj": "text_enc_proj",
    "positional_embedding": "positional_embedding",
    "prd_embedding": "prd_emb",
    "norm_out": "final_ln",
    "proj_to_clip_embeddings": "out_proj",
}
PROJECTIONS = {
    "learned_classifier_free_guidance_embeddings": "cf_param",
    "clip_image_embeddings_project_to_time_embeddings": "clip_emb",
    "embedding_proj": "text_feat_proj",
    "clip_extra_context_tokens_proj": "clip_tok_proj",
    "encoder_hidden_states_proj": "text_seq_proj.0",
    "text_encoder_hidden_states_norm": "text_seq_proj.1",
}
KANDINSKY = {
    "encoder_hid_proj.image_embeds": "clip_to_seq",
    "encoder_hid_proj.text_proj": "to_model_dim_n",
    "add_embedding.text_proj": "proj_n",
    "add_embedding.text_norm": "ln_model_n",
    "add_embedding.image_proj": "img_layer",
}
PRIOR_BLOCK = {
    "norm1": "ln_1",
    "norm3": "ln_2",
    "attn1.to_out.0": "attn.c_proj",
    "ff.net.0.proj": "mlp.c_fc",
    "ff.net.2": "mlp.c_proj",
}


def rename(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of the modules in `names`, each under its other name; a tensor may be named itself."""
    renamed = {}
    for name, tensor in state.items():
        for theirs, original in names.items():
            if name == theirs or name.startswith(f"{theirs}."):
                renamed[original + name.removeprefix(theirs)] = tensor
    return renamed


def interleave(state: State, parts: list[str], head_dim: int) -> dict[str, Tensor]:
    """Weight and bias of projections in one, sorted by head: all rows of the first head of each part come first."""
    fused = {}
    for leaf in ("weight", "bias"):
        by_head = zip(*(state[f"{part}.{leaf}"].split(head_dim) for part in parts), strict=True)
        fused[leaf] = torch.cat([rows for head in by_head for rows in head])
    return fused


def prior(state: State, head_dim: int) -> dict[str, Tensor]:
    """PriorTransformer without its statistics."""
    found = rename(state, PRIOR | TIME)
    for index in range(count(state, "transformer_blocks.")):
        theirs, original = f"transformer_blocks.{index}", f"transformer.resblocks.{index}"
        found |= rename(state, {f"{theirs}.{key}": f"{original}.{value}" for key, value in PRIOR_BLOCK.items()})
        qkv = interleave(state, [f"{theirs}.attn1.to_{part}" for part in "qkv"], head_dim)
        found |= {f"{original}.attn.c_qkv.{leaf}": tensor for leaf, tensor in qkv.items()}
    return found


def unet(state: State, head_dim: int = 1) -> dict[str, Tensor]:
    """A U-Net: the original is three lists of blocks, in the order in which they run."""
    down, up = [["conv_in"]], []
    for level in range(count(state, "down_blocks.")):
        down += steps(state, f"down_blocks.{level}")
        down += [[part] for part in present(state, f"down_blocks.{level}.downsamplers.0")]
    for level in range(count(state, "up_blocks.")):
        up += steps(state, f"up_blocks.{level}")
        up[-1] += present(state, f"up_blocks.{level}.upsamplers.0")
    middle = present(state, "mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
    found = rename(state, ENDS | TIME)
    for name, blocks in {"input_blocks.": down, "output_blocks.": up, "": [middle]}.items():
        for index, parts in enumerate(blocks):
            for place, theirs in enumerate(parts):
                original = f"{name}{index}" if name else "middle_block"
                found |= block(state, theirs, f"{original}.{place}", head_dim)
    return found


def movq(state: State) -> dict[str, Tensor]:
    """VQModel."""
    last = max(int(match[1]) for name in state if (match := re.search(r"up_blocks\.(\d)", name)))
    rules = [
        (r"\.down_blocks\.(\d)", r".down.\1"),
        (r"\.up_blocks\.(\d)", lambda match: f".up.{last - int(match[1])}"),
        (r"\.mid_block\.resnets\.(\d)", lambda match: f".mid.block_{int(match[1]) + 1}"),
        (r"\.mid_block\.attentions\.0", ".mid.attn_1"),
        (r"\.resnets\.", ".block."),
        (r"\.attentions\.", ".attn."),
        (r"\.(down|up)samplers\.0\.conv", r".\1sample.conv"),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
        (r"\.to_(q|k|v)\.", r".\1."),
        (r"\.to_out\.0\.", ".proj_out."),
        (r"\.(spatial|group)_norm\.", ".norm."),
    ]
    original = {}
    for name, tensor in state.items():
        pointwise = re.search(r"\.to_(q|k|v|out\.0)\.weight", name)
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        original[name] = tensor[:, :, None, None] if pointwise else tensor
    return original


def count(state: State, start: str) -> int:
    """How many numbers follow `start` in the names."""
    return len({name.removeprefix(start).split(".")[0] for name in state if name.startswith(start)})


def present(state: State, *parts: str) -> list[str]:
    return [part for part in parts if count(state, f"{part}.")]


def steps(state: State, level: str) -> list[list[str]]:
    """The residual blocks of a level, each with its attention if there is one."""
    indices = range(count(state, f"{level}.resnets."))
    return [present(state, f"{level}.resnets.{index}", f"{level}.attentions.{index}") for index in indices]


def block(state: State, theirs: str, original: str, head_dim: int) -> dict[str, Tensor]:
    """A residual block, an attention block or the first convolution."""
    if theirs == "conv_in":
        return rename(state, {theirs: original})
    found = rename(state, {f"{theirs}.{key}": f"{original}.{value}" for key, value in RES.items()})
    if f"{theirs}.to_q.weight" not in state:
        return found
    for name, parts in {"qkv": ["to_q", "to_k", "to_v"], "encoder_kv": ["add_k_proj", "add_v_proj"]}.items():
        fused = interleave(state, [f"{theirs}.{part}" for part in parts], head_dim)
        found |= {f"{original}.{name}.{leaf}": tensor for leaf, tensor in fused.items()}
    # They are convolutions over a row of pixels.
    pointwise = [f"{original}.{name}.weight" for name in ("qkv", "encoder_kv", "proj_out")]
    return found | {name: found[name][:, :, None] for name in pointwise}
