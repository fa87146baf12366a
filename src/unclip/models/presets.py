"""Name the shapes of networks (tiny, the paper's, published), and count parameters, bytes and operations of any."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.checkpoint import Storage
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.models.decoder import DecoderConfig
from unclip.models.kandinsky import KandinskyDecoderConfig
from unclip.models.movq import AutoencoderConfig
from unclip.models.prior import PriorConfig
from unclip.models.upsampler import UpsamplerConfig

C = TypeVar("C", bound=Config)

_PRIORS = {
    "tiny": {"embedding_dim": 32, "num_text_tokens": 16, "width": 64, "depth": 2, "num_heads": 2},
    "reference": {"embedding_dim": 768, "num_text_tokens": 77, "width": 1024, "depth": 24, "num_heads": 16},
    "karlo": {"embedding_dim": 768, "num_text_tokens": 77, "width": 2048, "depth": 20, "num_heads": 32},
    "kandinsky-2.2": {"embedding_dim": 1280, "num_text_tokens": 77, "width": 2048, "depth": 20, "num_heads": 32},
    "dalle2-paper": {"embedding_dim": 1024, "num_text_tokens": 256, "width": 2048, "depth": 24, "num_heads": 32},
}

_TINY_UNET = {"base_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1}
_KARLO_UNET = {"base_channels": 320, "channel_mult": (1, 2, 3, 4), "num_res_blocks": 3}
_KARLO_DECODER = _KARLO_UNET | {"image_size": 64, "attention_resolutions": (32, 16, 8), "dropout": 0.1}
# The paper does not say how its upsamplers take the time. Scale and shift, as in ADM, makes 730M and 282M parameters of
# what it calls 700M and 300M.
_PAPER_256 = _KARLO_UNET | {"conditioning": "adaptive"}
_PAPER_1024 = _PAPER_256 | {"base_channels": 192, "channel_mult": (1, 1, 2, 2, 4, 4), "num_res_blocks": 2}

_DECODERS = {
    "tiny": _TINY_UNET
    | {"image_size": 16, "embedding_dim": 32, "context_dim": 32, "attention_resolutions": (8,), "head_dim": 32},
    "karlo": _KARLO_DECODER | {"embedding_dim": 768, "text_dim": 768, "context_dim": 1536},
    "dalle2-paper": _KARLO_DECODER
    | {"base_channels": 512, "embedding_dim": 1024, "text_dim": 1024, "context_dim": 2048}
    | {"text_transformer": {"num_text_tokens": 256, "depth": 24, "num_heads": 32}},
    # Blocks of 4 x 4 pixels make the grid as fine as that of a 64 px decoder, without a first upsampler; predicting x0
    # keeps such blocks learnable (arXiv 2511.13720).
    "reference": _KARLO_DECODER
    | {"base_channels": 384, "channel_mult": (1, 2, 4, 4), "image_size": 256, "patch_size": 4, "dropout": 0.0}
    | {"embedding_dim": 768, "text_dim": 768, "context_dim": 1536, "learned_variance": False, "prediction_type": "x0"},
}

_UPSAMPLERS = {
    "tiny": _TINY_UNET | {"image_size": 32, "low_res_size": 8},
    "karlo": _KARLO_UNET | {"image_size": 256, "low_res_size": 64},
    "dalle2-paper-256": _PAPER_256 | {"image_size": 256, "low_res_size": 64, "dropout": 0.1},
    "dalle2-paper-1024": _PAPER_1024 | {"image_size": 1024, "low_res_size": 256, "schedule": "linear"},
    "reference": _PAPER_1024
    | {"image_size": 1024, "low_res_size": 256, "patch_size": 4, "noise_conditioning": True, "prediction_type": "x0"},
}

_KANDINSKY_UNET = _KARLO_UNET | {"base_channels": 384, "attention_levels": (1, 2, 3), "context_dim": 768}

_KANDINSKY_DECODERS = {
    "tiny": _TINY_UNET
    | {"image_size": 8, "embedding_dim": 32, "context_dim": 32, "attention_levels": (1,), "head_dim": 32}
    | {"num_image_tokens": 4, "normalize_image": True},
    "kandinsky-2.1": _KANDINSKY_UNET
    | {"image_size": 64, "embedding_dim": 768, "text_dim": 1024, "num_image_tokens": 10, "normalize_image": False},
    "kandinsky-2.2": _KANDINSKY_UNET
    | {"image_size": 64, "embedding_dim": 1280, "num_image_tokens": 32, "normalize_image": True},
}

_MOVQ = {"bottleneck_channels": 4, "latent_channels": 4, "norm": "spatial"}
_AUTOENCODERS = {
    "tiny": _TINY_UNET | _MOVQ | {"attention_levels": (1,), "codebook_size": 64},
    # Also that of 2.1. Its published config has scaling_factor 0.18215, a default that no pipeline applies: latents are
    # sampled unscaled.
    "kandinsky-2.2": _MOVQ
    | {"base_channels": 128, "channel_mult": (1, 2, 2, 4), "num_res_blocks": 2, "attention_levels": (3,)}
    | {"codebook_size": 16384},
}


def preset_names(config: type[Config]) -> list[str]:
    """Return the names of the presets of a config class, such as `PriorConfig`; empty if it has none."""
    return sorted(_TABLES.get(config, {}))


def prior_preset(name: str) -> PriorConfig:
    """Get the prior of a name, such as "reference" (308M parameters) or "karlo" (1.02B); else `InputError`.

    Kandinsky 2.1's has the shape of Karlo's.
    """
    return _preset(PriorConfig, _PRIORS, name)


def decoder_preset(name: str) -> DecoderConfig:
    """Get the decoder of a name, as "tiny" (16 px, no text) or "karlo" (893M, 64 px, text); else `InputError`."""
    return _preset(DecoderConfig, _DECODERS, name)


def kandinsky_decoder_preset(name: str) -> KandinskyDecoderConfig:
    """Get the latent decoder "tiny" (8 x 8, no text), "kandinsky-2.1" (1.23B parameters, with text) or
    "kandinsky-2.2" (1.25B, without), the last two for latents of 64 x 64; else `InputError`."""
    return _preset(KandinskyDecoderConfig, _KANDINSKY_DECODERS, name)


def upsampler_preset(name: str) -> UpsamplerConfig:
    """Get the upsampler of a name, as "tiny" (8 to 32 px) or "karlo" (692M, 64 to 256 px); else `InputError`."""
    return _preset(UpsamplerConfig, _UPSAMPLERS, name)


def autoencoder_preset(name: str) -> AutoencoderConfig:
    """Get the autoencoder "tiny" (halves once) or "kandinsky-2.2" (67.8M parameters); else `InputError`."""
    return _preset(AutoencoderConfig, _AUTOENCODERS, name)


def _preset(cls: type[C], presets: Mapping[str, Mapping[str, Any]], name: str) -> C:
    if name not in presets:
        raise InputError(f"no {cls.__name__} preset is called {name!r}; {did_you_mean(name, presets)}")
    return cls(**presets[name])


_TABLES: Mapping[type[Config], Mapping[str, Mapping[str, Any]]] = {
    PriorConfig: _PRIORS,
    DecoderConfig: _DECODERS,
    KandinskyDecoderConfig: _KANDINSKY_DECODERS,
    UpsamplerConfig: _UPSAMPLERS,
    AutoencoderConfig: _AUTOENCODERS,
}


def count_parameters(module: nn.Module) -> int:
    """Count trainable and frozen parameters; buffers are left out."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_bytes(module: nn.Module) -> dict[Storage, int]:
    """Count bytes of the parameters by storage; int8 keeps vectors, and a scale per output channel, in float32."""
    count = count_parameters(module)
    int8 = sum(p.numel() + 4 * len(p) if p.ndim > 1 else 4 * p.numel() for p in module.parameters())
    return {"float32": 4 * count, "bfloat16": 2 * count, "int8": int8}


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Count floating-point operations of one call, two per multiply-add; on meta tensors nothing is computed."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        function(*args)
    return int(counter.get_total_flops())
