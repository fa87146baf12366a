"""What a model folder holds, read from the files' headers. Knows files and configurations; loads no weights."""

from pathlib import Path
from typing import Any

from unclip.checkpoint import read_metadata
from unclip.config import Config
from unclip.models import count_parameters
from unclip.pipelines.folder import Defaults, build, find_model, open_network, read_model_config

__all__ = ["ModelInfo", "StageInfo", "describe_model"]


class StageInfo(Config):
    """One stage of a model."""

    name: str
    """What the stage is called in settings and files."""
    num_parameters: int
    """Weights of the network."""
    num_bytes: int
    """Size of its file."""
    storage: str
    """How its weights are stored."""
    config: dict[str, Any]
    """The network's configuration."""


class ModelInfo(Config):
    """One model."""

    name: str
    """What the model is called."""
    folder: Path
    """Where it is."""
    image_sizes: tuple[int, ...]
    """Sides of the pictures that it draws, smallest first."""
    defaults: Defaults
    """What it uses where a caller says nothing."""
    stages: tuple[StageInfo, ...]


def describe_model(name_or_folder: str | Path) -> ModelInfo:
    """Describe a shipped model or a folder; raises `InputError` and `CheckpointError` as loading it would."""
    folder = find_model(name_or_folder)
    config = read_model_config(folder)
    stages = {stage: _describe_stage(folder, stage) for stage in config.stages}
    sizes = tuple(stages[stage].config["image_size"] for stage in ("decoder", *config.upsamplers))
    return ModelInfo(
        name=config.name, folder=folder, image_sizes=sizes, defaults=config.defaults, stages=tuple(stages.values())
    )


def _describe_stage(folder: Path, stage: str) -> StageInfo:
    path = folder / f"{stage}.safetensors"
    weights = open_network(path, stage)
    return StageInfo(
        name=stage,
        num_parameters=count_parameters(build(weights)),
        num_bytes=path.stat().st_size,
        storage=read_metadata(path).get("storage", "float32"),
        config=weights.config.model_dump(mode="json"),
    )
