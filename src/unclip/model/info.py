"""Describe a model folder or a preset: its networks, sizes and costs. No weights are loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip.checkpoint import Storage, read_metadata, stored_types
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.files import expand_home
from unclip.interop import unclip_obstacles
from unclip.model.families import ENCODERS, build_on_meta, count_step
from unclip.model.family import LATENT_SIZE
from unclip.model.folder import Defaults, is_native, shipped_models
from unclip.model.hashes import FileState, check_hashes
from unclip.model.opening import looks_like_repository, open_sources
from unclip.model.presets import model_preset, model_presets
from unclip.models import count_bytes, count_parameters
from unclip.runtime import encoder_dtype, inference_dtype, resolve_device


class StageInfo(Config):
    """One stage of a model."""

    name: str
    """What the stage is called in settings and files."""
    number_format: str
    """What it computes in on this machine by default, such as bfloat16."""
    num_parameters: int
    """Weights of the network."""
    flops_per_step: int
    """Floating-point operations of one step for one picture without guidance; of one text where the stage is CLIP."""
    memory: Mapping[Storage, int]
    """Bytes of the weights in each storage."""
    num_bytes: int | None = None
    """Size of its file; None for a preset."""
    storage: str | None = None
    """How its weights are stored; None for a preset."""
    config: dict[str, Any]
    """The network's configuration."""


class ModelInfo(Config):
    """One model."""

    name: str
    """What the model is called."""
    description: str = ""
    """What it is, where that is known."""
    folder: Path | None = None
    """Its path; None for a preset, which has shapes but no weights."""
    image_sizes: tuple[int, ...]
    """Sides of the pictures that it draws, smallest first."""
    defaults: Defaults
    """What it uses for options that a caller leaves out."""
    stages: tuple[StageInfo, ...]
    hashes: Mapping[str, FileState] | None = None
    """Whether each file of the folder is as its card says; None where the card has no hashes."""
    not_in_diffusers: tuple[str, ...] = ()
    """Why `convert(..., to="diffusers")` would refuse it; empty where it would not."""
    dropped: Mapping[str, str] = {}
    """Options and tensors of a third-party model that have no effect here, each with the reason."""


def describe_model(name_or_folder: str | Path) -> ModelInfo:
    """Describe a preset, or a model that `UnClip.load` finds; of a name that both have, the model.

    Raises `InputError` for a name that none of them has, and `CheckpointError` as loading the model would.
    """
    name, shipped, presets = str(name_or_folder), shipped_models(), model_presets()
    if name not in shipped and name in presets and not Path(name).exists():
        description, stages, sampling = model_preset(name)
        return _describe(stages, {}, name=name, description=description, defaults=Defaults(stages=sampling))
    if name not in shipped and not expand_home(name).exists() and not looks_like_repository(name):
        hint = did_you_mean(name, shipped + presets)
        raise InputError(f"there is no model {name!r}, and no folder of that name; {hint}")
    source, (path,), descriptions, dropped = open_sources([name])
    files: dict[str, tuple[int, str]] = {}
    for stage, weights in source.networks.items():
        if is_native(path):
            file = path / f"{stage}.safetensors"
            files[stage] = file.stat().st_size, read_metadata(file).get("storage", "float32")
        else:
            size = sum(tensor.num_bytes for tensor in weights.tensors.values())
            files[stage] = size, stored_types(weights.tensors)
    return _describe(
        {stage: weights.config for stage, weights in source.networks.items()},
        files,
        name=source.name,
        description="" if is_native(path) else "; ".join(descriptions),
        folder=path,
        defaults=source.defaults,
        hashes=check_hashes(path) if is_native(path) else None,
        dropped=dropped,
    )


def _describe(configs: Mapping[str, Config], files: Mapping[str, tuple[int, str]], **fields: Any) -> ModelInfo:
    """Describe networks by their configurations; `files` has the bytes and the storage of each that has a file."""
    networks, device = {stage: build_on_meta(config) for stage, config in configs.items()}, resolve_device()
    # An autoencoder has no size of its own: it decodes what the decoder draws.
    latents = networks["decoder"].config.image_size if "decoder" in networks else LATENT_SIZE
    sizes = {"autoencoder": (latents, latents)}
    stages = [
        StageInfo(
            name=stage,
            number_format=str(encoder_dtype(device) if stage in ENCODERS else inference_dtype(device))[len("torch.") :],
            num_parameters=count_parameters(network),
            flops_per_step=count_step(network, sizes.get(stage)),
            memory=count_bytes(network),
            num_bytes=files[stage][0] if stage in files else None,
            storage=files[stage][1] if stage in files else None,
            config=network.config.model_dump(mode="json"),
        )
        for stage, network in networks.items()
    ]
    # A decoder of latents draws pictures as large as its autoencoder makes them.
    factor = networks["autoencoder"].config.downsampling if "autoencoder" in networks else 1
    sides = {
        network.config.image_size * (factor if stage == "decoder" else 1)
        for stage, network in networks.items()
        if stage == "decoder" or stage.startswith("upsampler_")
    }
    obstacles = tuple(unclip_obstacles(configs))
    return ModelInfo(image_sizes=tuple(sorted(sides)), stages=tuple(stages), not_in_diffusers=obstacles, **fields)
