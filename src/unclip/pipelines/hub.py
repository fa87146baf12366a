"""Repositories of the Hugging Face hub as folders of the local cache. Knows ids and files; not what is in them."""

import re
from functools import partial
from pathlib import Path

from unclip.errors import InputError

__all__ = ["fetch", "looks_like_repository"]

REPOSITORY = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>[\w./-]+))?")
# Everything that an importer can read, and none of the other frameworks' copies of it.
WANTED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.gz")
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.th")


def looks_like_repository(name: str) -> bool:
    """Whether `name` has the form owner/name or owner/name@revision."""
    return REPOSITORY.fullmatch(name) is not None and not Path(name).exists()


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of a repository's snapshot; what is in the cache is not fetched again, and needs no network.

    `name` is owner/name or owner/name@revision; without a revision it is the newest commit of the main branch, or the
    cached one where there is no network. Pickles are fetched only where there are no safetensors. Raises `InputError`
    for an id that is not there, and where neither network nor cache has it.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    found = REPOSITORY.fullmatch(name)
    assert found is not None, f"{name!r} is no repository"
    download = partial(huggingface_hub.snapshot_download, found["id"], revision=revision or found["revision"])
    try:
        folder = Path(download(allow_patterns=list(WANTED)))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(download(allow_patterns=[*WANTED, *PICKLES]))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise InputError(
            f"{name} is no folder here, the hub's cache does not have it, and the hub cannot be reached; check the id "
            "and the network, or give a folder."
        ) from None
    except (HfHubHTTPError, ValueError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{name} cannot be fetched from the hub ({reason}); check the id and your access.") from None
    return folder
