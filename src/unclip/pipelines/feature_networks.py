"""Opening a feature network by name. Knows which network reads which weights; not what features are measured for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from unclip.checkpoint import fill
from unclip.errors import InputError, did_you_mean
from unclip.evaluation import (
    ClipFeatures,
    DinoFeatures,
    DinoV2,
    FeatureNetwork,
    Inception,
    InceptionFeatures,
    dino_config,
)
from unclip.files import expand_home
from unclip.interop import open_weights
from unclip.pipelines.clip_model import open_clip
from unclip.pipelines.feature_weights import PUBLISHED, find_weights
from unclip.runtime import resolve_device

__all__ = ["open_features"]

N = TypeVar("N", bound=nn.Module)

CLIP = "clip:"
COUNTER = "num_batches_tracked"


def open_features(
    name: str, weights: Path | str | None = None, device: torch.device | str = "auto", cache: Path | None = None
) -> FeatureNetwork:
    """The network called `name`: "inception", "dinov2-vits14" (vitb14, vitl14, vitg14), or "clip:MODEL".

    MODEL is anything that `open_clip` takes. The weights of others are the file `weights`, safetensors or as published;
    else the published file in the folder `cache`, which is the variable UNCLIP_CACHE or `~/.cache/unclip`,
    and where it is fetched to if need be. Raises `InputError` for an unknown name and where there are no weights,
    `CheckpointError` for weights that are damaged or of another network.
    """
    if name.startswith(CLIP):
        model = name.removeprefix(CLIP)
        if weights is not None:
            raise InputError(
                f"{name} names a model with weights of its own, found weights={weights} too; leave it out."
            )
        return ClipFeatures(open_clip(model, device), model)
    if name not in PUBLISHED:
        raise InputError(f"there is no feature network {name!r}; {did_you_mean(name, (*PUBLISHED, 'clip:MODEL'))}")
    place = resolve_device(str(device))
    path = find_weights(name, PUBLISHED[name], cache) if weights is None else expand_home(weights)
    if name == "inception":
        return InceptionFeatures(_filled(Inception, path, place))
    return DinoFeatures(_filled(partial(DinoV2, dino_config(name)), path, place), name)


def _filled(build: Callable[[], N], path: Path, device: torch.device) -> N:
    """A network with the weights of a file, strictly; how many batches a normalisation saw is none of them."""
    with torch.device("meta"):
        network = build()
    tensors = open_weights(path).tensors
    fill(network, {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}, path, device)
    return network
