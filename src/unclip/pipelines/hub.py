"""Repositories of the Hugging Face hub as folders of the local cache."""

import glob
import os
import re
from functools import partial
from pathlib import Path

from unclip.errors import InputError
from unclip.interop import needed_weights
from unclip.pipelines.folder import is_ours

__all__ = ["fetch", "looks_like_repository"]

REPOSITORY = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>[\w./-]+))?")
# What says how a model is to be read: fetched first, so that it is known which weights to fetch.
DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.gz")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def looks_like_repository(name: str) -> bool:
    """Whether `name` has the form owner/name or owner/name@revision."""
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
        missing = [
            path for path in _weights(folder, [file.rfilename for file in files]) if not (folder / path).exists()
        ]
        if missing:
            download(allow_patterns=[*DESCRIPTIONS, *map(glob.escape, missing)])
    except (HTTPError, OSError) as error:
        raise InputError(_refusal(name, revision, error)) from None
    return folder


def _weights(folder: Path, names: list[str]) -> list[str]:
    """Return the weights among a repository's files that reading it opens; `folder` holds its descriptions."""
    if is_ours(folder):
        return [name for name in names if re.fullmatch(r"[^/]+\.safetensors", name)]
    return needed_weights(folder, names)


def _refusal(name: str, revision: str | None, error: Exception) -> str:
    """One line on why a repository that the cache does not have cannot be fetched, and what to do."""
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
        case OSError(strerror=str(words), filename=str(path)):
            return f"{name} cannot be kept in the hub's cache ({path}: {words}); make room, or set HF_HOME to another."
    return f"{missing} the hub cannot be reached ({reason}); check the network, or give a folder."
