"""Open a model by its name, folder, file or hub repository."""

import glob
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from unclip.clip import ClipConfig, TextImageEncoder, Tokenizer
from unclip.clip.encoder import check_tokenizer
from unclip.config import load_config
from unclip.errors import CheckpointError, InputError, did_you_mean
from unclip.files import expand_home
from unclip.interop import ForeignModel, import_foreign, needed_weights
from unclip.model.checks import Part, check_fit
from unclip.model.families import build_on_meta
from unclip.model.folder import (
    CONFIG_FILE,
    WEIGHTS,
    Defaults,
    ModelSource,
    is_native,
    join_sources,
    open_model,
    shipped_models,
)
from unclip.model.presets import model_presets
from unclip.model.residence import Residence
from unclip.runtime import resolve_device

REPOSITORY = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>[\w./-]+))?")
# Files that describe a model: fetched first, since they say which weights to fetch.
DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.gz", "MODEL_CARD.md")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Opened(NamedTuple):
    """A model that was opened."""

    source: ModelSource
    paths: list[Path]
    descriptions: list[str]
    """What each path was recognised as."""
    dropped: dict[str, str]
    """Names of tensors and options that are left behind, each with the reason."""


def open_sources(names: Sequence[str | Path], revision: str | None = None, *, check: bool = True) -> Opened:
    """Open one model, or join the parts of one: a shipped name, folders, files, hub repositories (`owner/name`).

    `revision` is a hub repository's branch, tag or commit. Raises `InputError` for what is not there,
    `CheckpointError` and `ConfigError` for what is damaged, is something else, or is there twice, and unless `check` is
    False, for parts that do not fit each other; a `Model` checks that itself.
    """
    paths = [find_model(name, revision) for name in names]
    if len(paths) == 1 and is_native(paths[0]):
        source = open_model(paths[0])
        if check:
            check_source(source)
        return Opened(source, paths, [f"a model of ours ({source.name})"], {})
    if native := next((path for path in paths if is_native(path)), None):
        raise InputError(f"{native} is a whole model already; give it alone, or only third-party models.")
    models = import_foreign(paths)
    dropped = {name: reason for model in models for name, reason in model.dropped.items()}
    name = str(names[0])
    # A hub repository is named with the commit that was read.
    name = f"{name.partition('@')[0]}@{paths[0].name[:12]}" if looks_like_repository(name) else paths[0].stem
    source = join_foreign(name, models)
    if check:
        check_source(source)
    return Opened(source, paths, [model.description for model in models], dropped)


def open_clip(name_or_folder: str | Path, device: torch.device | str = "auto") -> TextImageEncoder:
    """Load CLIP in float32, of a model as `UnClip.load` finds it or of a folder that holds a CLIP alone.

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


def find_model(name_or_path: str | Path, revision: str | None = None, shipped: Path = WEIGHTS) -> Path:
    """Return the path of a model: of a shipped one, else a local path, else the cached copy of a hub repository.

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


def _nowhere(name: str, names: list[str]) -> str:
    """Write the error for a name of no model."""
    if "huggingface.co/" in name:
        repository = "/".join(name.partition("huggingface.co/")[2].split("/")[:2])
        return f"{name} is an address; give the repository's id, {repository}."
    if name in model_presets():
        return f"{name!r} is a preset, shapes without weights; give a folder or a hub id of published weights."
    if "/" in name or name.startswith(".") or Path(name).suffix:
        return f"{name} does not exist; give a folder or file that does, a hub id (owner/name), or a shipped model."
    hint = did_you_mean(name, names) if names else "none is shipped, so give a folder."
    return f"there is no model {name!r}, and no folder of that name; {hint}"


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
    """Join the stages of several third-party models; raises `CheckpointError` for a stage that comes twice."""
    sources = []
    for model in models:
        # Other libraries sample a single embedding.
        defaults = load_config(Defaults, {"num_candidates": 1, "stages": model.sampling})
        sources.append(ModelSource(name, model.stages, model.tokenizers, defaults))
    return join_sources(name, sources, CheckpointError)


def looks_like_repository(name: str) -> bool:
    """Tell whether `name` has the form owner/name or owner/name@revision."""
    return REPOSITORY.fullmatch(name) is not None and not Path(name).exists()


def fetch(name: str, revision: str | None = None) -> Path:
    """Return the folder of a repository's snapshot, fetched into the hub's cache where it is not there yet.

    `name` is owner/name or owner/name@revision; without a revision it is the newest commit of the main branch. Of the
    weights those are fetched that reading the folder opens: one format and one precision of each part. Where the hub
    refuses or cannot be reached, the cached copy is taken. Raises `InputError` where there is none, saying which of the
    two it was, and `CheckpointError` before weights are fetched for a repository of a kind that is not read.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]

    match = REPOSITORY.fullmatch(name)
    assert match is not None, f"{name!r} is no repository"
    repository, revision = match["id"], revision or match["revision"]
    download = partial(huggingface_hub.snapshot_download, repository, revision=revision)
    try:
        # Asked once: the calls that list a tree try again for half a minute where there is no network.
        files = huggingface_hub.HfApi().model_info(repository, revision=revision).siblings or []
    except (HTTPError, OSError, ValueError) as error:
        try:
            return Path(download(allow_patterns=list(DESCRIPTIONS), local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            raise InputError(_refusal(name, revision, error)) from None
    try:
        folder = Path(download(allow_patterns=list(DESCRIPTIONS)))
        names = [file.rfilename for file in files]
        native = [path for path in names if re.fullmatch(r"[^/]+\.safetensors", path)]
        weights = native if is_native(folder) else needed_weights(folder, names)
        missing = [path for path in weights if not (folder / path).exists()]
        if missing:
            download(allow_patterns=[*DESCRIPTIONS, *map(glob.escape, missing)])
    except (HTTPError, OSError) as error:
        raise InputError(_refusal(name, revision, error)) from None
    return folder


def _refusal(name: str, revision: str | None, error: Exception) -> str:
    """Write why a repository that the cache does not have cannot be fetched, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    missing = f"{name} is no folder here, the hub's cache does not have it, and"
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    log_in = "log in (hf auth login, or the variable HF_TOKEN)"
    match error:
        case OfflineModeIsEnabled():
            variables = " and ".join(variable for variable in OFFLINE if os.environ.get(variable)) or OFFLINE[0]
            return f"{missing} the hub is not asked, as {variables} is set; unset it, or give a folder."
        case GatedRepoError():
            return f"{missing} the hub gives it only to those who accepted its terms; do so on its page, and {log_in}."
        case RevisionNotFoundError():
            return f"{missing} its repository has no revision {revision!r}; give a branch, tag or commit that it has."
        case RepositoryNotFoundError():
            return f"{missing} the hub has no such repository, or a private one; check the id, or {log_in}."
        case HfHubHTTPError(response=response):
            return f"{missing} the hub answers with an error (HTTP {response.status_code}); try again later."
        case HFValidationError():
            return f"{name} is no folder here, and no id that the hub could have ({reason}); check it."
        case OSError(strerror=str(reason), filename=str(path)):
            return f"{name} cannot be kept in the hub's cache ({path}: {reason}); make room, or set HF_HOME to another."
    return f"{missing} the hub cannot be reached ({reason}); check the network, or give a folder."
