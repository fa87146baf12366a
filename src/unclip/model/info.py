"""What a model folder or a preset holds, and what it costs. Knows headers and configurations; loads no weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip.checkpoint import NetworkWeights, Storage, read_metadata, stored_types
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.files import expand_home
from unclip.interop import unclip_obstacles
from unclip.model.families import ENCODERS, build_on_meta, count_step
from unclip.model.folder import Defaults, is_ours, shipped_models
from unclip.model.opening import looks_like_repository, open_sources
from unclip.model.presets import model_preset, model_presets
from unclip.models import count_bytes, count_parameters
from unclip.runtime import encoder_dtype, inference_dtype, resolve_device

# Beginnings of the names of the stages that draw pictures.
DRAWING = ("decoder", "upsampler_")


class StageInfo(Config):
    """One stage of a model."""

    name: str
    """What the stage is called in settings and files."""
    number_format: str
    """What it computes in on this machine unless a caller says otherwise, such as bfloat16."""
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
    """Where it is; None for a preset, which has shapes but no weights."""
    image_sizes: tuple[int, ...]
    """Sides of the pictures that it draws, smallest first."""
    defaults: Defaults
    """What it uses where a caller says nothing."""
    stages: tuple[StageInfo, ...]
    not_in_diffusers: tuple[str, ...] = ()
    """Why `convert(..., to="diffusers")` would refuse it; empty where it would not."""
    dropped: Mapping[str, str] = {}
    """Options and tensors of a foreign model that are not followed here, each with the reason."""


def describe_model(name_or_folder: str | Path) -> ModelInfo:
    """Describe a preset, or a model that `UnClip.load` finds; a model goes before a preset of its name.

    Raises `InputError` for a name that none of them has, and `CheckpointError` as loading the model would.
    """
    name, shipped, presets = str(name_or_folder), shipped_models(), model_presets()
    if name not in shipped and name in presets and not Path(name).exists():
        return _describe_preset(name)
    if name in shipped or expand_home(name).exists() or looks_like_repository(name):
        return _describe_files(name)
    raise InputError(f"there is no model {name!r}, and no folder of that name; {did_you_mean(name, shipped + presets)}")


def _describe_files(name: str) -> ModelInfo:
    source, (path,), descriptions, dropped = open_sources([name])
    ours = is_ours(path)
    files = {stage: _our_file(path, stage) if ours else _size(weights) for stage, weights in source.networks.items()}
    networks = {stage: build_on_meta(weights.config) for stage, weights in source.networks.items()}
    stages = tuple(_describe_stage(stage, network, *files[stage]) for stage, network in networks.items())
    return ModelInfo(
        name=source.name,
        description="" if ours else "; ".join(descriptions),
        folder=path,
        image_sizes=_image_sizes(networks),
        defaults=source.defaults,
        stages=stages,
        not_in_diffusers=_obstacles(networks),
        dropped=dropped,
    )


def _describe_preset(name: str) -> ModelInfo:
    preset = model_preset(name)
    networks = {stage: build_on_meta(config) for stage, config in preset.stages.items()}
    return ModelInfo(
        name=name,
        description=preset.description,
        image_sizes=_image_sizes(networks),
        defaults=Defaults(stages=preset.sampling),
        stages=tuple(_describe_stage(stage, network) for stage, network in networks.items()),
        not_in_diffusers=_obstacles(networks),
    )


def _obstacles(networks: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(unclip_obstacles({stage: network.config for stage, network in networks.items()}))


def _describe_stage(name: str, network: Any, num_bytes: int | None = None, storage: str | None = None) -> StageInfo:
    device = resolve_device()
    number_format = encoder_dtype(device) if name in ENCODERS else inference_dtype(device)
    return StageInfo(
        name=name,
        number_format=str(number_format).removeprefix("torch."),
        num_parameters=count_parameters(network),
        flops_per_step=count_step(network),
        memory=count_bytes(network),
        num_bytes=num_bytes,
        storage=storage,
        config=network.config.model_dump(mode="json"),
    )


def _our_file(folder: Path, stage: str) -> tuple[int, str]:
    """Bytes and storage of a file of ours."""
    path = folder / f"{stage}.safetensors"
    return path.stat().st_size, read_metadata(path).get("storage", "float32")


def _size(weights: NetworkWeights) -> tuple[int, str]:
    """Bytes and number formats of foreign tensors."""
    return sum(tensor.num_bytes for tensor in weights.tensors.values()), stored_types(weights.tensors)


def _image_sizes(networks: Mapping[str, Any]) -> tuple[int, ...]:
    """Sides of pictures; a decoder of latents draws them as large as its autoencoder makes them."""
    factor = networks["autoencoder"].config.downsampling if "autoencoder" in networks else 1
    sides = {
        network.config.image_size * (factor if stage == "decoder" else 1)
        for stage, network in networks.items()
        if stage.startswith(DRAWING)
    }
    return tuple(sorted(sides))
