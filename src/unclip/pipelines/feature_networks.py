"""Opening a feature network by name. Knows where weights are and come from; not what features are measured for."""

from pathlib import Path

import torch

from unclip.errors import InputError, did_you_mean
from unclip.evaluation import ClipFeatures, FeatureNetwork
from unclip.pipelines.clip_model import open_clip

__all__ = ["open_features"]

CLIP = "clip:"
NAMES = ("inception",)


def open_features(
    name: str, weights: Path | None = None, device: torch.device | str = "auto", cache: Path | None = None
) -> FeatureNetwork:
    """The network called `name`: "inception", "dinov2-vits14" (vitb14, vitl14, vitg14), or "clip:MODEL".

    MODEL is anything that `open_clip` takes. Raises `InputError` for an unknown name.
    """
    if name.startswith(CLIP):
        if weights is not None:
            raise InputError(f"{name} names its own weights; leave out weights={weights}.")
        return ClipFeatures(open_clip(name.removeprefix(CLIP), device), name.removeprefix(CLIP))
    raise InputError(f"there is no feature network {name!r}; {did_you_mean(name, (*NAMES, 'clip:MODEL'))}")
