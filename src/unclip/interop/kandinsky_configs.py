"""Kandinsky's configs in the words of diffusers and transformers, and back. Knows no tensors."""

from collections.abc import Mapping
from typing import Any

from unclip.clip import MultilingualConfig
from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop.options import other_options, read_options, require
from unclip.interop.unet_configs import (
    UNET_BLOCKS,
    UNET_DEFAULTS,
    UNET_FIXED,
    attention_levels,
    block_types,
    learned_variance,
    shape_theirs,
    widths,
)
from unclip.models import AutoencoderConfig, KandinskyDecoderConfig

__all__ = [
    "autoencoder_config",
    "autoencoder_config_theirs",
    "decoder_config",
    "decoder_config_theirs",
    "refuse_variants",
    "text_encoder_config",
]

_UNET, _VQ, _TEXT = "UNet2DConditionModel", "VQModel", "MultilingualCLIP"

# By whether there is text: encoder_hid_dim_type, addition_embed_type, number of image tokens.
_CONDITIONING = {False: ("image_proj", "image", 32), True: ("text_image_proj", "text_image", 10)}

_VQ_FIXED = {
    "act_fn": "silu",
    "norm_num_groups": 32,
    "lookup_from_codebook": False,
    "force_upcast": False,
}
_VQ_DEFAULTS = {
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
_VQ_BLOCKS = {
    "down": {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"},
    "up": {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"},
}

_TEXT_FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
_TEXT_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
    "numDims": 768,
    "transformerDimensions": 1024,
    # What they take for granted, but we do not have.
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}


def decoder_config(theirs: Mapping[str, Any]) -> KandinskyDecoderConfig:
    """Ours from the config of diffusers' `UNet2DConditionModel`; raises `ConfigError` for options that ours has not."""
    found = read_options(theirs, _UNET, UNET_FIXED, UNET_DEFAULTS)
    refuse_variants(found["in_channels"], found["addition_embed_type"])
    has_text = found["addition_embed_type"] == "text_image"
    hidden_type, added_type, num_image_tokens = _CONDITIONING[has_text]
    require(_UNET, "addition_embed_type", found["addition_embed_type"], added_type)
    require(_UNET, "encoder_hid_dim_type", found["encoder_hid_dim_type"], hidden_type)
    fields = {
        "image_size": found["sample_size"],
        "embedding_dim": found["cross_attention_dim"] if has_text else found["encoder_hid_dim"],
        "text_dim": found["encoder_hid_dim"] if has_text else 0,
        "normalize_image": not has_text,
        "attention_levels": attention_levels(found, _UNET, UNET_BLOCKS),
        "num_res_blocks": found["layers_per_block"],
        "head_dim": found["attention_head_dim"],
        "num_image_tokens": num_image_tokens,
        "context_dim": found["cross_attention_dim"],
        "dropout": found["dropout"],
        "learned_variance": learned_variance(found, _UNET, found["in_channels"]),
        "in_channels": found["in_channels"],
        **widths(found["block_out_channels"], _UNET),
    }
    return load_config(KandinskyDecoderConfig, fields)


def decoder_config_theirs(ours: KandinskyDecoderConfig) -> dict[str, Any]:
    """The config of diffusers' `UNet2DConditionModel` from ours; raises `ConfigError` for what theirs cannot be."""
    has_text = bool(ours.text_dim)
    hidden_type, added_type, num_image_tokens = _CONDITIONING[has_text]
    kind = "KandinskyDecoderConfig"
    require(kind, "num_image_tokens", ours.num_image_tokens, num_image_tokens)
    require(kind, "normalize_image", ours.normalize_image, not has_text)
    if has_text:
        require(kind, "embedding_dim", ours.embedding_dim, ours.context_dim)
        require(kind, "text_embedding_dim", ours.text_embedding_dim or ours.embedding_dim, ours.context_dim)
    return {
        "_class_name": _UNET,
        **UNET_DEFAULTS,
        **UNET_FIXED,
        **shape_theirs(ours, ours.attention_levels),
        "in_channels": ours.in_channels,
        "cross_attention_dim": ours.context_dim,
        "attention_head_dim": ours.head_dim,
        "encoder_hid_dim": ours.text_dim or ours.embedding_dim,
        "encoder_hid_dim_type": hidden_type,
        "addition_embed_type": added_type,
    }


def refuse_variants(in_channels: int, addition_embed_type: object = None) -> None:
    """Raise `ConfigError` for the decoders that are told more than an image and a text."""
    if addition_embed_type == "image_hint":
        raise ConfigError(
            "this is Kandinsky's ControlNet decoder (image_hint), which is not supported; give the plain one."
        )
    if in_channels == 9:
        raise ConfigError(
            "this is Kandinsky's inpainting decoder (in_channels=9), which is not supported; give the plain one."
        )


def autoencoder_config(theirs: Mapping[str, Any]) -> AutoencoderConfig:
    """Ours from the config of diffusers' `VQModel`; raises `ConfigError` for options that ours has not.

    `scaling_factor` is left out: it is a default there, and Kandinsky's decoders draw the latents as they are.
    """
    found = read_options(theirs, _VQ, _VQ_FIXED, _VQ_DEFAULTS)
    require(_VQ, "out_channels", found["out_channels"], found["in_channels"])
    fields = {
        "attention_levels": attention_levels(found, _VQ, _VQ_BLOCKS),
        "num_res_blocks": found["layers_per_block"],
        "middle_attention": found["mid_block_add_attention"],
        "bottleneck_channels": found["latent_channels"],
        "latent_channels": found["vq_embed_dim"] or found["latent_channels"],
        "codebook_size": found["num_vq_embeddings"],
        "norm": found["norm_type"],
        "in_channels": found["in_channels"],
        **widths(found["block_out_channels"], _VQ),
    }
    return load_config(AutoencoderConfig, fields)


def autoencoder_config_theirs(ours: AutoencoderConfig) -> dict[str, Any]:
    """The config of diffusers' `VQModel` from ours."""
    return {
        "_class_name": _VQ,
        **_VQ_DEFAULTS,
        **_VQ_FIXED,
        **block_types(ours.attention_levels, len(ours.channel_mult), _VQ_BLOCKS),
        "in_channels": ours.in_channels,
        "out_channels": ours.in_channels,
        "block_out_channels": ours.widths,
        "layers_per_block": ours.num_res_blocks,
        "latent_channels": ours.bottleneck_channels,
        "num_vq_embeddings": ours.codebook_size,
        "vq_embed_dim": ours.latent_channels,
        "norm_type": ours.norm,
        "mid_block_add_attention": ours.middle_attention,
        "scaling_factor": ours.scaling_factor,
    }


def text_encoder_config(theirs: Mapping[str, Any]) -> tuple[MultilingualConfig, dict[str, str]]:
    """Ours from the config of `MultilingualCLIP`, and its options that are not known, each with the reason.

    Raises `ConfigError` for a network that is not XLM-RoBERTa's.
    """
    known = {name: value for name, value in theirs.items() if name in _TEXT_FIXED or name in _TEXT_DEFAULTS}
    found = read_options(known, _TEXT, _TEXT_FIXED, _TEXT_DEFAULTS)
    require(_TEXT, "transformerDimensions", found["transformerDimensions"], found["hidden_size"])
    fields = {
        "embedding_dim": found["numDims"],
        "width": found["hidden_size"],
        "depth": found["num_hidden_layers"],
        "num_heads": found["num_attention_heads"],
        "ff_dim": found["intermediate_size"],
        "vocab_size": found["vocab_size"],
        "pad_token": found["pad_token_id"],
        "num_positions": found["max_position_embeddings"],
    }
    others = other_options(theirs, [*known, "modelBase"], "XLM-RoBERTa")
    return load_config(MultilingualConfig, fields), others
