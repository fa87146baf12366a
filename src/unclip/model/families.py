"""The networks that a model can hold: classes, configurations, and what one step reads and costs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
    count_flops,
)
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig


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
# Networks that encode and are not sampled.
ENCODERS = ("clip", "text_encoder")
_BY_CONFIG = {network.config: network.build for network in NETWORKS.values()}


def build_on_meta(config: Config) -> Any:
    """The network that a configuration describes, for inference; it takes no memory until it is filled."""
    with torch.device("meta"):
        return _BY_CONFIG[type(config)](config).eval().requires_grad_(False)


# Text tokens that a decoder reads whose own shape does not limit them.
CLIP_TOKENS = 77
# Side of the latents that an autoencoder's step is counted for: pictures of 512 px, as Kandinsky draws them.
LATENT_SIZE = 64


def count_step(network: nn.Module) -> int:
    """Floating-point operations of one step for one picture without guidance, at the size the network is trained at.

    `network` is on the meta device. Of CLIP it is one text, of an autoencoder the decoding of one picture.
    """
    with torch.device("meta"):
        return count_flops(*_one_step(network))


def _one_step(network: nn.Module) -> tuple[Callable[..., Any], *tuple[Tensor | None, ...]]:
    time = torch.empty(1)
    match network:
        case Clip(config=shape):
            return network.encode_tokens, torch.empty(1, shape.context_length, dtype=torch.int64)
        case Prior(config=shape):
            text = torch.empty(1, shape.text_embedding_dim or shape.embedding_dim)
            hidden = _tokens(shape.num_text_tokens, shape.text_dim or shape.embedding_dim)
            return network, torch.empty(1, shape.embedding_dim), time, text, hidden
        case Dalle2Prior(config=shape):
            embedding = torch.empty(1, shape.embedding_dim)
            hidden = _tokens(shape.num_text_tokens, shape.embedding_dim * shape.reads_text_hidden)
            return network, embedding, time, embedding, hidden
        case Decoder(config=shape):
            picture, embedding = _picture(shape.in_channels, shape.image_size), torch.empty(1, shape.embedding_dim)
            length = shape.text_transformer.num_text_tokens if shape.text_transformer else CLIP_TOKENS
            pooled, hidden = embedding if shape.text_dim else None, _tokens(length, shape.text_dim)
            return network, picture, time, embedding, None, pooled, hidden
        case KandinskyDecoder(config=shape):
            latent, embedding = _picture(shape.in_channels, shape.image_size), torch.empty(1, shape.embedding_dim)
            pooled = torch.empty(1, shape.text_embedding_dim or shape.embedding_dim) if shape.text_dim else None
            return network, latent, time, embedding, pooled, _tokens(CLIP_TOKENS, shape.text_dim)
        case MultilingualClip():
            ids = torch.empty(1, CLIP_TOKENS, dtype=torch.int64)
            return network, ids, torch.empty(1, CLIP_TOKENS, dtype=torch.bool)
        case Dalle2UNet(config=shape):
            read = torch.empty(1, shape.embedding_dim) if shape.embedding_dim else None
            picture = _picture(shape.in_channels, shape.image_size)
            return network, picture, time, read, None, _tokens(shape.num_text_tokens, shape.text_dim)
        case Upsampler(config=shape):
            low_res = _picture(shape.in_channels, shape.low_res_size)
            return network, _picture(shape.in_channels, shape.image_size), time, low_res
        case Autoencoder(config=shape):
            return network.decode, _picture(shape.latent_channels, LATENT_SIZE)
    raise AssertionError(f"nobody said what a step of {type(network).__name__} reads")


def _tokens(length: int, width: int) -> Tensor | None:
    return torch.empty(1, length, width) if length and width else None


def _picture(channels: int, size: int) -> Tensor:
    return torch.empty(1, channels, size, size)
