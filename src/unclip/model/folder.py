"""The model folder: its files, its `config.json`, and the models that come with the package."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import pydantic

from unclip.checkpoint import NetworkWeights, Storage, open_weights, save_network
from unclip.clip import MultilingualTokenizer, Tokenizer
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.files import atomic_write
from unclip.model.basis import BASIS_FILE, EmbeddingBasis
from unclip.model.families import FAMILIES
from unclip.model.settings import Presets, StageSettings

CONFIG_FILE = "config.json"
STAGES = ("clip", "prior", "decoder", "autoencoder", "text_encoder", "upsampler_<size>", "upsampler_<size>_last")
SAMPLED = r"prior|decoder|upsampler_\d+"
AnyTokenizer: TypeAlias = Tokenizer | MultilingualTokenizer
TOKENIZERS: dict[str, tuple[type[AnyTokenizer], str]] = {
    "clip": (Tokenizer, "tokenizer.json"),
    "text_encoder": (MultilingualTokenizer, "text_tokenizer.json"),
}
WEIGHTS = Path(__file__).parent.parent / "weights"


class Defaults(Config):
    """What a task uses for options that a caller leaves out."""

    image_size: int | None = None
    """Side of the pictures in pixels; None is the largest that the model draws."""
    num_candidates: int = pydantic.Field(default=2, ge=1)
    """Image embeddings that the prior draws per picture; the one nearest to the text is decoded (paper: 2)."""
    stages: Mapping[str, StageSettings]
    """Sampling settings of every stage but CLIP."""
    presets: Presets = pydantic.Field(default_factory=dict)
    """Other settings under a name, such as fast: by stage, those that differ from the stage's own."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Defaults":
        for name, changes in self.presets.items():
            for stage, settings in changes.items():
                if stage not in self.stages:
                    raise ValueError(f"preset {name} sets {stage}, which has no settings; known: {sorted(self.stages)}")
                self.stages[stage].replace(**settings)
        return self


class ModelConfig(Config):
    """The `config.json` of a model folder."""

    format: Literal["unclip"] = "unclip"
    """Marks the native layout."""
    version: Literal[1] = 1
    """Version of the layout."""
    name: str
    """What the model is called."""
    stages: tuple[str, ...]
    """Its networks, of those that `STAGES` names; each has `<stage>.safetensors`."""
    defaults: Defaults

    @pydantic.model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        unknown = [stage for stage in self.stages if not _networks(stage)]
        if not self.stages or unknown:
            raise ValueError(f"stages are {list(self.stages)}; unknown: {unknown}, allowed: {', '.join(STAGES)}")
        sampled = {stage for stage in self.stages if re.fullmatch(SAMPLED, stage)}
        if set(self.defaults.stages) != sampled:
            raise ValueError(f"defaults are given for {sorted(self.defaults.stages)}, the stages are {sorted(sampled)}")
        return self


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A model that is not loaded: all its files are open, none is read."""

    name: str
    """What the model is called."""
    networks: Mapping[str, NetworkWeights]
    """By the names of `ModelConfig.stages`."""
    tokenizers: Mapping[str, AnyTokenizer]
    """By the network that reads their ids."""
    defaults: Defaults
    basis: EmbeddingBasis | None = None
    """The principal components of its image embeddings; None where it comes without."""


def is_native(path: Path) -> bool:
    """Tell whether `path` has the native layout: by its `config.json` or, if that is damaged, by its weights."""
    if any((path / f"{stage}.safetensors").exists() for stage in STAGES):
        return True
    try:
        content = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == "unclip"


def shipped_models(shipped: Path = WEIGHTS) -> list[str]:
    """Name the models that come with the package."""
    return sorted(path.parent.name for path in shipped.glob(f"*/{CONFIG_FILE}"))


def read_model_config(folder: Path) -> ModelConfig:
    """Read the `config.json` of `folder`; raises `CheckpointError` if it is missing or of another layout."""
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


def open_model(folder: Path) -> ModelSource:
    """Open a native folder; raises `CheckpointError` for what is missing, cut short or of another kind."""
    config = read_model_config(folder)
    source, basis = open_stages(config.name, dict.fromkeys(config.stages, folder), config.defaults), folder / BASIS_FILE
    return replace(source, basis=EmbeddingBasis.load(basis)) if basis.exists() else source


def open_stages(name: str, folders: Mapping[str, Path], defaults: Defaults) -> ModelSource:
    """Open stages of several folders: `folders` says where each is. Raises like `open_model`, and `ConfigError`."""
    config = load_config(ModelConfig, {"name": name, "stages": tuple(folders), "defaults": defaults})
    networks = {stage: open_network(folders[stage] / f"{stage}.safetensors", stage) for stage in config.stages}
    tokenizers = {
        stage: kind.load(folders[stage] / file) for stage, (kind, file) in TOKENIZERS.items() if stage in folders
    }
    return ModelSource(name, networks, tokenizers, config.defaults)


def open_network(path: Path, stage: str) -> NetworkWeights:
    """Open a native file; raises `CheckpointError` unless it holds a network that `stage` can be."""
    tensors, metadata = open_weights(path)
    allowed = _networks(stage)
    kind, network = metadata.get("kind", "no named stage"), metadata.get("network", allowed[0])
    if kind != stage or network not in allowed or "config" not in metadata:
        raise CheckpointError(f"{path} holds {kind!r}, not {stage!r}; put the weights of {stage} there.")
    try:
        config = load_config(FAMILIES[network].config, json.loads(metadata["config"]))
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{path} describes no {stage} that can be built: {error}") from None
    return NetworkWeights(network, config, tensors, str(path))


def join_sources(name: str, sources: Sequence[ModelSource], error: type[UnclipError]) -> ModelSource:
    """Join the stages of several models, with the other defaults of the first; raises `error` for a stage in two."""
    networks: dict[str, NetworkWeights] = {}
    tokenizers: dict[str, AnyTokenizer] = {}
    settings: dict[str, StageSettings] = {}
    for source in sources:
        for stage, weights in source.networks.items():
            if stage in networks:
                raise error(
                    f"{stage} is there twice: in {networks[stage].source} and in {weights.source}; give one of them."
                )
        networks |= source.networks
        tokenizers |= source.tokenizers
        settings |= source.defaults.stages
    return ModelSource(name, networks, tokenizers, sources[0].defaults.replace(stages=settings))


def check_new(folder: Path) -> None:
    """Raise `InputError` for a folder that exists and is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists already; give a folder that does not.")


def bytes_in(folder: Path) -> int:
    """Sum the sizes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_model(source: ModelSource, folder: Path, storage: Storage | None = None) -> None:
    """Write a model folder, reading and writing one tensor after the other.

    `config.json` comes last, so that a folder without it was cut short.
    """
    for stage, weights in source.networks.items():
        save_network(folder / f"{stage}.safetensors", weights, stage, storage)
    for stage, tokenizer in source.tokenizers.items():
        tokenizer.save(folder / TOKENIZERS[stage][1])
    # A basis left by another model would be taken for this one's.
    (folder / BASIS_FILE).unlink(missing_ok=True)
    if source.basis is not None:
        source.basis.save(folder / BASIS_FILE)
    config = load_config(
        ModelConfig, {"name": source.name, "stages": tuple(source.networks), "defaults": source.defaults}
    )
    atomic_write(folder / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")


def upsampler_names(stages: Iterable[str]) -> list[str]:
    """Pick the upsamplers from names of stages, smallest first."""
    names = [stage for stage in stages if re.fullmatch(r"upsampler_\d+", stage)]
    return sorted(names, key=lambda name: int(name.removeprefix("upsampler_")))


def _networks(stage: str) -> list[str]:
    """Name the classes of networks that a stage can be; the first one is meant where a file does not say."""
    pattern = re.sub(r"^upsampler_\d+(?=$|_last$)", "upsampler_<size>", stage)
    kind = "upsampler" if pattern.startswith("upsampler_") else pattern
    return [name for name, family in FAMILIES.items() if family.stage == kind] if pattern in STAGES else []
