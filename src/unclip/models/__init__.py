"""The networks and their configs; a network maps tensors to a tensor, and does not sample."""

from unclip.diffusion import PredictionType, ScheduleName
from unclip.models.autoencoder import ConvAutoencoder, ConvAutoencoderConfig
from unclip.models.decoder import Decoder, DecoderConfig, TextTransformerConfig
from unclip.models.kandinsky import KandinskyDecoder, KandinskyDecoderConfig
from unclip.models.movq import Autoencoder, AutoencoderConfig
from unclip.models.presets import (
    autoencoder_preset,
    count_bytes,
    count_flops,
    count_parameters,
    decoder_preset,
    kandinsky_decoder_preset,
    preset_names,
    prior_preset,
    upsampler_preset,
)
from unclip.models.prior import Prior, PriorConfig, TextCache
from unclip.models.unet import UNet, UNetConfig
from unclip.models.upsampler import Upsampler, UpsamplerConfig

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "ConvAutoencoder",
    "ConvAutoencoderConfig",
    "Decoder",
    "DecoderConfig",
    "KandinskyDecoder",
    "KandinskyDecoderConfig",
    "PredictionType",
    "Prior",
    "PriorConfig",
    "ScheduleName",
    "TextCache",
    "TextTransformerConfig",
    "UNet",
    "UNetConfig",
    "Upsampler",
    "UpsamplerConfig",
    "autoencoder_preset",
    "count_bytes",
    "count_flops",
    "count_parameters",
    "decoder_preset",
    "kandinsky_decoder_preset",
    "preset_names",
    "prior_preset",
    "upsampler_preset",
]
