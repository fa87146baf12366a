"""Kandinsky 2.1 in the layout of diffusers: configurations and tensor names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unclip.checkpoint import LazyTensor
from unclip.clip import MultilingualClip, MultilingualConfig
from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop.movq import movq_names, movq_original_names
from unclip.interop.options import other_options, read_options, require
from unclip.interop.rules import ForeignNetwork, Names, Value, foreign_network, row, under
from unclip.interop.unclip import (
    TIME,
    TIME_ORIGINAL,
    prior_config,
    prior_names,
    prior_original_names,
    unet_names,
    unet_original_names,
)
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
from unclip.models import (
    Autoencoder,
    AutoencoderConfig,
    KandinskyDecoder,
    KandinskyDecoderConfig,
    Prior,
    PriorConfig,
    autoencoder_preset,
    kandinsky_decoder_preset,
    prior_preset,
)

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


Tensors = Mapping[str, LazyTensor]

_CONV_IN = "input_blocks.0.0.weight"
_PRIOR_PREFIX = "model"
_UNSCALED = {"scaling_factor": "a default of diffusers; the decoders draw the latents as they are"}
_TEXT_DROPPED = {
    "transformer.pooler.": "XLM-RoBERTa's pooler, which CLIP does not use",
    "transformer.embeddings.position_ids": "numbers that are counted here",
}
_PRIOR_DROPPED = {
    "model.padding_embedding": "the published prior pads with nothing (xf_padding is off)",
    "clip_": "the statistics are taken from their own file",
    "causal_mask": "computed here",
    "cf_": "the empty prompt, which is encoded when it is needed",
}


def kandinsky_decoder(tensors: Tensors, config: Mapping[str, Any], source: str) -> ForeignNetwork:
    """The decoder of 2.1 or 2.2 from diffusers' `UNet2DConditionModel`.

    Here and below: `config` is their `config.json`, `source` says in messages where the tensors come from. Raises
    `ConfigError` for options that our network has not, such as inpainting, and `CheckpointError` for tensors that are
    missing, left over or of the wrong shape.
    """
    ours = decoder_config(config)
    return foreign_network(KandinskyDecoder, ours, tensors, kandinsky_names(ours), source)


def kandinsky_autoencoder(tensors: Tensors, config: Mapping[str, Any], source: str) -> ForeignNetwork:
    """The autoencoder from diffusers' `VQModel`."""
    ours = autoencoder_config(config)
    found = foreign_network(Autoencoder, ours, tensors, movq_names(ours), source)
    return found._replace(dropped={**found.dropped, **_UNSCALED})


def kandinsky_prior(tensors: Tensors, config: Mapping[str, Any], source: str) -> ForeignNetwork:
    """The prior from diffusers' `PriorTransformer`, which is also Karlo's."""
    ours = prior_config(config)
    return foreign_network(Prior, ours, tensors, prior_names(ours), source)


def kandinsky_text_encoder(tensors: Tensors, config: Mapping[str, Any], source: str) -> ForeignNetwork:
    """The text encoder of 2.1 from `MultilingualCLIP`, diffusers' or the original's."""
    ours, others = text_encoder_config(config)
    names = multilingual_names(ours)
    found = foreign_network(MultilingualClip, ours, tensors, names, source, dropped=_TEXT_DROPPED)
    return found._replace(dropped={**found.dropped, **others})


def kandinsky_original_decoder(
    tensors: Tensors, source: str, config: KandinskyDecoderConfig | None = None
) -> ForeignNetwork:
    """The decoder from 2.1's `decoder_fp16.ckpt`, which says nothing of its shape: None is the published one."""
    if _CONV_IN in tensors:
        refuse_variants(tensors[_CONV_IN].shape[1])
    ours = config or kandinsky_decoder_preset("kandinsky-2.1")
    return foreign_network(KandinskyDecoder, ours, tensors, kandinsky_original_names(ours), source)


def kandinsky_original_autoencoder(
    tensors: Tensors, source: str, config: AutoencoderConfig | None = None
) -> ForeignNetwork:
    """The autoencoder from 2.1's `movq_final.ckpt`; None is the published shape."""
    ours = config or autoencoder_preset("kandinsky-2.2")
    return foreign_network(Autoencoder, ours, tensors, movq_original_names(ours), source)


def kandinsky_original_prior(
    tensors: Tensors, statistics: tuple[Tensor, Tensor], source: str, config: PriorConfig | None = None
) -> ForeignNetwork:
    """The prior from 2.1's `prior_fp16.ckpt`, with mean and standard deviation from `ViT-L-14_stats.th`.

    None is the published shape, which is Karlo's.
    """
    ours = config or prior_preset("karlo")
    constants = dict(zip(("embedding_mean", "embedding_std"), statistics, strict=True))
    names = under("", _PRIOR_PREFIX, prior_original_names(ours))
    return foreign_network(Prior, ours, tensors, names, source, constants=constants, dropped=_PRIOR_DROPPED)
