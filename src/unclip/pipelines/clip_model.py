"""Opening the CLIP of a model, and nothing else of it. Knows where models are; not what CLIP is used for."""

from pathlib import Path

import torch

from unclip.clip import TextImageEncoder, Tokenizer
from unclip.errors import InputError
from unclip.pipelines.folder import CONFIG_FILE
from unclip.pipelines.networks import build_on_meta
from unclip.pipelines.opening import find_model, open_sources
from unclip.pipelines.residence import Residence
from unclip.runtime import resolve_device

__all__ = ["open_clip"]


def open_clip(name_or_folder: str | Path, device: torch.device | str = "auto") -> TextImageEncoder:
    """CLIP in float32, of a model as `UnClip.load` finds it or of a folder that holds no more than a CLIP.

    Raises `InputError` where there is no model or it has no CLIP, `CheckpointError` for what is damaged.
    """
    path, device = find_model(name_or_folder), resolve_device(str(device))
    if (path / "clip.safetensors").exists() and not (path / CONFIG_FILE).exists():
        return TextImageEncoder.load(path, device)
    source = open_sources([name_or_folder]).source
    if "clip" not in source.networks:
        raise InputError(f"the model {name_or_folder} has no CLIP, only {', '.join(source.networks)}; give another.")
    weights, tokenizer = source.networks["clip"], source.tokenizers["clip"]
    assert isinstance(tokenizer, Tokenizer), tokenizer
    network = build_on_meta(weights.config)
    Residence(weights, device, torch.float32).fill(network)
    return TextImageEncoder(network, tokenizer)
