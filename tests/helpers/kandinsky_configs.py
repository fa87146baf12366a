"""Configs of diffusers for Kandinsky's networks: the inverse of what the importers read, to build references with."""

from typing import Any

from unclip.interop.kandinsky import CONDITIONING
from unclip.interop.movq import VQ_BLOCKS, VQ_DEFAULTS, VQ_FIXED
from unclip.interop.unets import UNET_DEFAULTS, UNET_FIXED, block_types, shape_theirs
from unclip.models import AutoencoderConfig, KandinskyDecoderConfig


def decoder_config_theirs(config: KandinskyDecoderConfig) -> dict[str, Any]:
    """The config of diffusers' `UNet2DConditionModel`."""
    hidden_type, added_type, num_image_tokens = CONDITIONING[bool(config.text_dim)]
    assert config.num_image_tokens == num_image_tokens
    assert config.normalize_image != bool(config.text_dim)
    return {
        "_class_name": "UNet2DConditionModel",
        **UNET_DEFAULTS,
        **UNET_FIXED,
        **shape_theirs(config, config.attention_levels, {}),
        "in_channels": config.in_channels,
        "cross_attention_dim": config.context_dim,
        "attention_head_dim": config.head_dim,
        "encoder_hid_dim": config.text_dim or config.embedding_dim,
        "encoder_hid_dim_type": hidden_type,
        "addition_embed_type": added_type,
    }


def autoencoder_config_theirs(config: AutoencoderConfig) -> dict[str, Any]:
    """The config of diffusers' `VQModel`."""
    return {
        "_class_name": "VQModel",
        **VQ_DEFAULTS,
        **VQ_FIXED,
        **block_types(config.attention_levels, len(config.channel_mult), VQ_BLOCKS),
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.num_res_blocks,
        "latent_channels": config.bottleneck_channels,
        "num_vq_embeddings": config.codebook_size,
        "vq_embed_dim": config.latent_channels,
        "norm_type": config.norm,
        "mid_block_add_attention": config.middle_attention,
        "scaling_factor": config.scaling_factor,
    }
