"""What a model folder or a preset holds, and what it costs. Knows headers and configurations; loads no weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from unclip.checkpoint import Storage, read_metadata
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.models import count_bytes, count_parameters
from unclip.pipelines.folder import Defaults, find_model, open_network, read_model_config, shipped_models
from unclip.pipelines.networks import build_on_meta
from unclip.pipelines.presets import model_preset, model_presets
from unclip.pipelines.sizes import count_step

__all__ = ["ModelInfo", "StageInfo", "describe_model"]

# Beginnings of the names of the stages that draw pictures.
DRAWING = ("decoder", "upsampler_")


class StageInfo(Config):
    """One stage of a model."""

    name: str
    """What the stage is called in settings and files."""
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


def describe_model(name_or_folder: str | Path) -> ModelInfo:
    """Describe a shipped model, a folder or a preset, in this order.

    Raises `InputError` for a name that none of them has, and `CheckpointError` as loading the folder would.
    """
    name, shipped, presets = str(name_or_folder), shipped_models(), model_presets()
    if name in shipped or Path(name).expanduser().is_dir():
        return _describe_folder(find_model(name))
    if name in presets:
        return _describe_preset(name)
    raise InputError(f"there is no model {name!r}, and no folder of that name; {did_you_mean(name, shipped + presets)}")


def _describe_folder(folder: Path) -> ModelInfo:
    config = read_model_config(folder)
    stages = []
    for stage in config.stages:
        path = folder / f"{stage}.safetensors"
        network, storage = (
            build_on_meta(open_network(path, stage).config),
            read_metadata(path).get("storage", "float32"),
        )
        stages.append(_describe_stage(stage, network, path.stat().st_size, storage))
    sizes = _image_sizes(tuple(stages))
    return ModelInfo(name=config.name, folder=folder, image_sizes=sizes, defaults=config.defaults, stages=tuple(stages))


def _describe_preset(name: str) -> ModelInfo:
    preset = model_preset(name)
    stages = tuple(_describe_stage(stage, build_on_meta(config)) for stage, config in preset.stages.items())
    defaults, sizes = Defaults(stages=preset.sampling), _image_sizes(stages)
    return ModelInfo(name=name, description=preset.description, image_sizes=sizes, defaults=defaults, stages=stages)


def _describe_stage(
    name: str, network: nn.Module, num_bytes: int | None = None, storage: str | None = None
) -> StageInfo:
    config = network.config
    assert isinstance(config, Config), f"{type(network).__name__} has no configuration"
    return StageInfo(
        name=name,
        num_parameters=count_parameters(network),
        flops_per_step=count_step(network),
        memory=count_bytes(network),
        num_bytes=num_bytes,
        storage=storage,
        config=config.model_dump(mode="json"),
    )


def _image_sizes(stages: tuple[StageInfo, ...]) -> tuple[int, ...]:
    return tuple(sorted({stage.config["image_size"] for stage in stages if stage.name.startswith(DRAWING)}))
