"""What other code calls the parts of Kandinsky's networks: diffusers, and 2.1's original code. Knows names only."""

from unclip.clip import MultilingualConfig
from unclip.interop.rules import Names, Value, row, under
from unclip.interop.unclip_names import TIME, TIME_ORIGINAL, unet_names, unet_original_names
from unclip.models import KandinskyDecoderConfig

__all__ = ["kandinsky_names", "kandinsky_original_names", "multilingual_names"]

TEXT_BLOCK: Names = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": "attention.output.dense",
    "norm_1": "attention.output.LayerNorm",
    "ff_in": "intermediate.dense",
    "ff_out": "output.dense",
    "norm_2": "output.LayerNorm",
}


def kandinsky_names(config: KandinskyDecoderConfig) -> Names:
    """`KandinskyDecoder` in diffusers' `UNet2DConditionModel`."""
    return {
        "image_embedding": "add_embedding.image_proj",
        "image_embedding_norm": "add_embedding.image_norm",
        "image_tokens": "encoder_hid_proj.image_embeds",
        "image_tokens_norm": "encoder_hid_proj.norm",
        "text_embedding": "add_embedding.text_proj",
        "text_embedding_norm": "add_embedding.text_norm",
        "text_tokens": "encoder_hid_proj.text_proj",
        **under("unet", "", unet_names(config.unet())),
        **under("time_embedding", "time_embedding", TIME),
    }


def kandinsky_original_names(config: KandinskyDecoderConfig) -> Names:
    """`KandinskyDecoder` in the original code of 2.1."""
    return {
        "image_embedding": "img_layer",
        "image_tokens": "clip_to_seq",
        "text_embedding": "proj_n",
        "text_embedding_norm": "ln_model_n",
        "text_tokens": "to_model_dim_n",
        **under("unet", "", unet_original_names(config.unet())),
        **under("time_embedding", "time_embed", TIME_ORIGINAL),
    }


def multilingual_names(config: MultilingualConfig) -> Names:
    """`MultilingualClip` in diffusers' `MultilingualCLIP`, which is also the original code's."""
    names: dict[str, Value] = {
        "token_embedding": "transformer.embeddings.word_embeddings",
        "position_embedding": "transformer.embeddings.position_embeddings",
        "type_embedding": row("transformer.embeddings.token_type_embeddings.weight"),
        "norm": "transformer.embeddings.LayerNorm",
        "projection": "LinearTransformation",
    }
    for index in range(config.depth):
        names |= under(f"blocks.{index}", f"transformer.encoder.layer.{index}", TEXT_BLOCK)
    return names
