"""The networks of DALLE2-pytorch with its quirks and parameter names, so that its weights load."""

from unclip.models.dalle2_pytorch.config import (
    V1_1_PRIOR,
    V1_1_UNET,
    Dalle2PriorConfig,
    Dalle2UNetConfig,
    dalle2_decoder_preset,
    dalle2_prior_preset,
)
from unclip.models.dalle2_pytorch.prior import Dalle2Prior
from unclip.models.dalle2_pytorch.unet import Dalle2UNet

__all__ = [
    "V1_1_PRIOR",
    "V1_1_UNET",
    "Dalle2Prior",
    "Dalle2PriorConfig",
    "Dalle2UNet",
    "Dalle2UNetConfig",
    "dalle2_decoder_preset",
    "dalle2_prior_preset",
]
