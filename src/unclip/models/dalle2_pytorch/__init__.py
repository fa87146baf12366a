"""The networks of DALLE2-pytorch with its quirks and parameter names, for its weights. They know tensors in and out."""

from unclip.models.dalle2_pytorch.prior import Dalle2Prior, Dalle2PriorConfig

__all__ = ["Dalle2Prior", "Dalle2PriorConfig"]
