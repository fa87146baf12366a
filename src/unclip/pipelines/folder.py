"""The model folder: which files it has, what its `config.json` says, where models are found. Knows no task."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import pydantic
from torch import nn

from unclip.checkpoint import load_tensors, load_weights
from unclip.clip import Clip, ClipConfig
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, ConfigError, InputError, did_you_mean
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig
from unclip.pipelines.settings import StageSettings

__all__ = [
    "Defaults",
    "ModelConfig",
    "build_network",
    "find_model",
    "load_network",
    "read_model_config",
    "shipped_models",
]

CONFIG_FILE = "config.json"
UPSAMPLER = "upsampler_"
WEIGHTS = Path(__file__).parent.parent / "weights"

N = TypeVar("N", bound=nn.Module)


class Defaults(Config):
    """What a task uses where a caller says nothing."""

    image_size: int | None = None
    """Side of the pictures in pixels; None is the largest that the model draws."""
    num_candidates: int = pydantic.Field(default=2, ge=1)
    """Image embeddings that the prior draws per picture; the one nearest to the text is decoded (paper: 2)."""
    stages: Mapping[str, StageSettings]
    """Sampling settings of every stage but CLIP."""


class ModelConfig(Config):
    """The `config.json` of a model folder."""

    format: Literal["unclip"] = "unclip"
    """Marks the folder as ours."""
    version: Literal[1] = 1
    """Version of the layout."""
    name: str
    """What the model is called."""
    stages: tuple[str, ...]
    """`clip`, `prior`, `decoder` and any `upsampler_<image size>`; each has `<stage>.safetensors`."""
    defaults: Defaults

    @pydantic.model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        missing = [stage for stage in ("clip", "prior", "decoder") if stage not in self.stages]
        unknown = [stage for stage in self.stages if stage not in KINDS and not re.fullmatch(rf"{UPSAMPLER}\d+", stage)]
        if missing or unknown:
            raise ValueError(f"stages are {list(self.stages)}; missing: {missing}, unknown: {unknown}")
        sampled = set(self.stages) - {"clip"}
        if set(self.defaults.stages) != sampled:
            raise ValueError(f"defaults are given for {sorted(self.defaults.stages)}, the stages are {sorted(sampled)}")
        return self

    @property
    def upsamplers(self) -> list[str]:
        """Names of the upsamplers, smallest first."""
        names = [stage for stage in self.stages if stage.startswith(UPSAMPLER)]
        return sorted(names, key=lambda name: int(name.removeprefix(UPSAMPLER)))


def find_model(name_or_folder: str | Path, shipped: Path = WEIGHTS) -> Path:
    """The folder of the shipped model of that name, else the folder that was given.

    Raises `InputError` naming the nearest model in `shipped` when there is neither.
    """
    name = str(name_or_folder)
    names = shipped_models(shipped)
    if name in names:
        return shipped / name
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    hint = did_you_mean(name, names) if names else "none is shipped, so give a folder."
    raise InputError(f"there is no model {name!r}, and no folder of that name; {hint}")


def shipped_models(shipped: Path = WEIGHTS) -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in shipped.glob(f"*/{CONFIG_FILE}"))


def read_model_config(folder: Path) -> ModelConfig:
    """The checked `config.json` of `folder`; raises `CheckpointError` when it is missing or not ours."""
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; give the folder of a model.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); fetch it again.") from None
    if not isinstance(content, dict) or content.get("format") != "unclip":
        raise CheckpointError(f"{path} does not describe an unclip model (no 'format': 'unclip').")
    try:
        return load_config(ModelConfig, content)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def build_network(path: Path, stage: str, metadata: Mapping[str, str]) -> nn.Module:
    """The untrained network that a file's metadata describe; raises `CheckpointError` when they are another stage's."""
    kind = metadata.get("kind", "no named stage")
    if kind != stage or "config" not in metadata:
        raise CheckpointError(f"{path} holds {kind!r}, not {stage!r}; put the weights of {stage} there.")
    config_class, network_class = KINDS[UPSAMPLER if stage.startswith(UPSAMPLER) else stage]
    try:
        return network_class(load_config(config_class, json.loads(metadata["config"])))
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{path} describes no {stage} that can be built: {error}") from None


def load_network(folder: Path, stage: str, network_class: type[N]) -> N:
    """The network of `stage` in float32 on the CPU, for inference; raises `CheckpointError` naming the file."""
    path = folder / f"{stage}.safetensors"
    tensors, metadata = load_tensors(path)
    network = build_network(path, stage, metadata)
    assert isinstance(network, network_class), f"{stage} is built as {type(network).__name__}"
    load_weights(network, tensors, path)
    return network.eval().requires_grad_(False)


KINDS: dict[str, tuple[type[Config], Callable[..., nn.Module]]] = {
    "clip": (ClipConfig, Clip),
    "prior": (PriorConfig, Prior),
    "decoder": (DecoderConfig, Decoder),
    UPSAMPLER: (UpsamplerConfig, Upsampler),
}
