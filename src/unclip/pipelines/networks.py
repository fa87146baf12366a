"""Every network that a model can hold, by name and by configuration. Knows their classes; no files and no stages."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from unclip.clip import Clip, ClipConfig, MultilingualClip, MultilingualConfig
from unclip.config import Config
from unclip.models import (
    Autoencoder,
    AutoencoderConfig,
    Decoder,
    DecoderConfig,
    KandinskyDecoder,
    KandinskyDecoderConfig,
    Prior,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
)
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig

__all__ = ["NETWORKS", "build_on_meta"]


class Network(NamedTuple):
    """A class of networks, and that of their configurations."""

    config: type[Config]
    build: Callable[..., nn.Module]


NETWORKS = {
    "Clip": Network(ClipConfig, Clip),
    "Prior": Network(PriorConfig, Prior),
    "Decoder": Network(DecoderConfig, Decoder),
    "Upsampler": Network(UpsamplerConfig, Upsampler),
    "Autoencoder": Network(AutoencoderConfig, Autoencoder),
    "KandinskyDecoder": Network(KandinskyDecoderConfig, KandinskyDecoder),
    "MultilingualClip": Network(MultilingualConfig, MultilingualClip),
    "Dalle2Prior": Network(Dalle2PriorConfig, Dalle2Prior),
    "Dalle2UNet": Network(Dalle2UNetConfig, Dalle2UNet),
}
_BY_CONFIG = {network.config: network.build for network in NETWORKS.values()}


def build_on_meta(config: Config) -> Any:
    """The network that a configuration describes, for inference; it takes no memory until it is filled."""
    with torch.device("meta"):
        return _BY_CONFIG[type(config)](config).eval().requires_grad_(False)
