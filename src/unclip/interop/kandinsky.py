"""Kandinsky's published networks as ours: 2.1 and 2.2 of diffusers, 2.1 of its original code. Opens no file."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unclip.checkpoint import LazyTensor
from unclip.clip import MultilingualClip
from unclip.interop.foreign import ForeignNetwork, foreign_network
from unclip.interop.kandinsky_configs import autoencoder_config, decoder_config, refuse_variants, text_encoder_config
from unclip.interop.kandinsky_names import kandinsky_names, kandinsky_original_names, multilingual_names
from unclip.interop.movq_names import movq_names, movq_original_names
from unclip.interop.rules import under
from unclip.interop.unclip_configs import prior_config
from unclip.interop.unclip_names import prior_names, prior_original_names
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

__all__ = [
    "kandinsky_autoencoder",
    "kandinsky_decoder",
    "kandinsky_original_autoencoder",
    "kandinsky_original_decoder",
    "kandinsky_original_prior",
    "kandinsky_prior",
    "kandinsky_text_encoder",
]

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
