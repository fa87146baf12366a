"""What other libraries call the parts of our CLIP. Knows names and layouts; moves no tensor."""

from unclip.clip import ClipConfig
from unclip.interop.rules import Layout, Names, Source, under

__all__ = ["openai_names", "transformers_names"]

_TRANSPOSED = Layout(lambda tensor: tensor.T, lambda tensor: tensor.T)

# Ours, transformers', OpenAI's.
_PARTS: tuple[tuple[str, str, str | Source], ...] = (
    ("logit_scale", "logit_scale", "logit_scale"),
    ("text.token_embedding", "text_model.embeddings.token_embedding", "token_embedding"),
    ("text.position_embedding", "text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text.final_norm", "text_model.final_layer_norm", "ln_final"),
    ("text.projection.weight", "text_projection.weight", Source(("text_projection",), _TRANSPOSED)),
    ("vision.patch_embedding", "vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision.class_embedding", "vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision.position_embedding", "vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision.pre_norm", "vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision.final_norm", "vision_model.post_layernorm", "visual.ln_post"),
    ("vision.projection.weight", "visual_projection.weight", Source(("visual.proj",), _TRANSPOSED)),
)
_TRANSFORMERS_BLOCK: Names = {
    "norm_1": "layer_norm1",
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": "self_attn.out_proj",
    "norm_2": "layer_norm2",
    "ff_in": "mlp.fc1",
    "ff_out": "mlp.fc2",
}
_OPENAI_BLOCK: Names = {
    "norm_1": "ln_1",
    "qkv.weight": "attn.in_proj_weight",
    "qkv.bias": "attn.in_proj_bias",
    "out": "attn.out_proj",
    "norm_2": "ln_2",
    "ff_in": "mlp.c_fc",
    "ff_out": "mlp.c_proj",
}


def transformers_names(config: ClipConfig) -> Names:
    """The names in `CLIPModel`, and so in its two towers `CLIP...WithProjection`."""
    return {
        **{ours: theirs for ours, theirs, _ in _PARTS},
        **_blocks("text", "text_model.encoder.layers", _TRANSFORMERS_BLOCK, config.text_layers),
        **_blocks("vision", "vision_model.encoder.layers", _TRANSFORMERS_BLOCK, config.vision_layers),
    }


def openai_names(config: ClipConfig) -> Names:
    """The names in OpenAI's and open_clip's models, less the "text." with which some of open_clip's begin."""
    return {
        **{ours: theirs for ours, _, theirs in _PARTS},
        **_blocks("text", "transformer.resblocks", _OPENAI_BLOCK, config.text_layers),
        **_blocks("vision", "visual.transformer.resblocks", _OPENAI_BLOCK, config.vision_layers),
    }


def _blocks(tower: str, theirs: str, block: Names, depth: int) -> Names:
    tables = [under(f"{tower}.blocks.{index}", f"{theirs}.{index}", block) for index in range(depth)]
    return {ours: source for table in tables for ours, source in table.items()}
