"""Finding a model by what a user calls it: shipped, a folder of ours or of others, a hub repository. Loads nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unclip.checkpoint import NetworkWeights
from unclip.clip import ClipConfig, Tokenizer
from unclip.clip.encoder import check_tokenizer
from unclip.config import load_config
from unclip.errors import CheckpointError, InputError, did_you_mean
from unclip.files import expand_home
from unclip.interop import ForeignModel, import_foreign
from unclip.pipelines.fit import Part, check_fit
from unclip.pipelines.folder import (
    WEIGHTS,
    AnyTokenizer,
    Defaults,
    ModelSource,
    is_ours,
    open_model,
    shipped_models,
)
from unclip.pipelines.hub import fetch, looks_like_repository
from unclip.pipelines.presets import model_presets
from unclip.pipelines.settings import StageSettings

__all__ = ["Opened", "find_model", "join_foreign", "open_sources"]


class Opened(NamedTuple):
    """A model that was found: its source, where it is, what it was recognised as, and what is left behind."""

    source: ModelSource
    paths: list[Path]
    descriptions: list[str]
    dropped: dict[str, str]


def open_sources(names: Sequence[str | Path], revision: str | None = None) -> Opened:
    """Open one model, or join the parts of one: a shipped name, folders, files, hub repositories (`owner/name`).

    `revision` is a hub repository's branch, tag or commit. Raises `InputError` for what is not there,
    `CheckpointError` and `ConfigError` for what is damaged, is something else, or is there twice.
    """
    paths = [find_model(name, revision) for name in names]
    if len(paths) == 1 and is_ours(paths[0]):
        source = open_model(paths[0])
        check_source(source)
        return Opened(source, paths, [f"a model of ours ({source.name})"], {})
    if ours := next((path for path in paths if is_ours(path)), None):
        raise InputError(f"{ours} is a whole model already; give it alone, or only models of others.")
    models = import_foreign(paths)
    dropped = {name: reason for model in models for name, reason in model.dropped.items()}
    name = _name(str(names[0]), paths[0])
    source = join_foreign(name, models)
    check_source(source)
    return Opened(source, paths, [model.description for model in models], dropped)


def find_model(name_or_path: str | Path, revision: str | None = None, shipped: Path = WEIGHTS) -> Path:
    """Where a model is: a shipped one of that name, else a path, else the cached copy of a hub repository.

    Raises `InputError` naming the nearest shipped model when there is none of these.
    """
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise InputError(f"{name_or_path!r} names no model; give a shipped name, a folder or a hub id.")
    name, names = str(name_or_path), shipped_models(shipped)
    path = shipped / name if name in names else expand_home(name_or_path)
    if revision is not None and path.exists():
        raise InputError(f"revision={revision!r} belongs to a hub repository, but {path} is here; leave it out.")
    if path.exists():
        return path
    if looks_like_repository(name):
        return fetch(name, revision)
    raise InputError(_nowhere(name, names))


def check_source(source: ModelSource) -> None:
    """Raise `CheckpointError` or `ConfigError` where stages or tokenizers do not fit each other, as loading would."""
    parts: dict[str, Part] = {stage: weights.config for stage, weights in source.networks.items()}
    if source.basis is not None:
        parts["embedding basis"] = source.basis
    check_fit(parts)
    clip = parts.get("clip")
    assert clip is None or isinstance(clip, ClipConfig), clip
    if clip is not None and isinstance(tokenizer := source.tokenizers["clip"], Tokenizer):
        check_tokenizer(tokenizer, clip)


def join_foreign(name: str, models: Sequence[ForeignModel]) -> ModelSource:
    """One model of the stages of several, none of which may come twice; raises `CheckpointError` naming the first."""
    networks: dict[str, NetworkWeights] = {}
    tokenizers: dict[str, AnyTokenizer] = {}
    stages: dict[str, StageSettings] = {}
    for model in models:
        for stage, weights in model.stages.items():
            if stage in networks:
                raise CheckpointError(
                    f"{stage} is there twice: in {networks[stage].source} and in {weights.source}; give one of them."
                )
            networks[stage] = weights
        tokenizers |= model.tokenizers
        stages |= {stage: load_config(StageSettings, settings) for stage, settings in model.sampling.items()}
    # Nobody else draws several embeddings to choose from.
    return ModelSource(name, networks, tokenizers, Defaults(num_candidates=1, stages=stages))


def _nowhere(name: str, names: list[str]) -> str:
    """What is wrong with a name that nothing has."""
    if "huggingface.co/" in name:
        repository = "/".join(name.partition("huggingface.co/")[2].split("/")[:2])
        return f"{name} is an address; give the repository's id, {repository}."
    if name in model_presets():
        return f"{name!r} is a preset, shapes without weights; give a folder or a hub id of published weights."
    if "/" in name or name.startswith(".") or Path(name).suffix:
        return f"{name} does not exist; give a folder or file that does, a hub id (owner/name), or a shipped model."
    hint = did_you_mean(name, names) if names else "none is shipped, so give a folder."
    return f"there is no model {name!r}, and no folder of that name; {hint}"


def _name(given: str, path: Path) -> str:
    """What a foreign model is called; a hub repository with the commit that was read."""
    return f"{given.partition('@')[0]}@{path.name[:12]}" if looks_like_repository(given) else path.stem
