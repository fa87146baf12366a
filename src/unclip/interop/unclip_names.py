"""What other code calls the parts of unCLIP's networks: diffusers, and the original code of Karlo. Knows names only.

Karlo's code descends from OpenAI's ADM and GLIDE; Kandinsky 2.1 shares its names.
"""

from unclip.interop.rules import Names, Value, heads, row, tokens, under
from unclip.models import DecoderConfig, PriorConfig, UNetConfig

__all__ = [
    "decoder_names",
    "decoder_original_names",
    "prior_names",
    "prior_original_names",
    "unet_names",
    "unet_original_names",
    "upsampler_names",
    "upsampler_original_names",
]

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
