"""The published weights of feature networks: in a folder of the user, else fetched there. Knows no network's inside."""

import http.client
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unclip.checkpoint import file_hash
from unclip.data import cache_folder
from unclip.errors import CheckpointError, InputError
from unclip.files import atomic_path
from unclip.progress import on_terminal, say

__all__ = ["PUBLISHED", "Published", "find_weights"]

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
MEGABYTE = 1e6


class Published(NamedTuple):
    """Where weights are published, and the file names under which they are looked for."""

    url: str
    others: tuple[str, ...] = ()
    """Names that the same content has elsewhere."""

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> tuple[str, ...]:
        """All names, in the order in which they are looked for."""
        return (self.file, *self.others, f"{Path(self.file).stem}.safetensors")


PUBLISHED = {
    "inception": Published(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ("pt_inception-2015-12-05-6726825d.pth",),
    ),
    **{
        f"dinov2-{size}": Published(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}/dinov2_{size}_pretrain.pth")
        for size in ("vits14", "vitb14", "vitl14", "vitg14")
    },
}


def find_weights(name: str, published: Published, cache: Path | None = None) -> Path:
    """The weights file of the network `name` in the folder `cache`, fetched into it if it is not there.

    A file whose published name carries the start of its SHA-256 is checked against it. Raises `InputError` where the
    file is not there and cannot be fetched, naming file, source and folder; `CheckpointError` where it is damaged.
    """
    folder = cache_folder() if cache is None else cache
    for path in (folder / file for file in published.files):
        if path.exists():
            _check_hash(path, path)
            return path
    path = folder / published.file
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for piece in _fetch(name, published, folder):
                file.write(piece)
        _check_hash(temporary, path)
    return path


def _check_hash(content: Path, named: Path) -> None:
    """Compare `content` with the eight digits in the name that it has or is to have, if there are any."""
    wanted = re.search(r"-([0-9a-f]{8})\.pth$", named.name)
    if wanted is not None and not (found := file_hash(content)).startswith(wanted[1]):
        raise CheckpointError(
            f"{named} is damaged: its SHA-256 starts with {found[:8]}, not {wanted[1]}; remove it, and fetch it again."
        )


def _fetch(name: str, published: Published, folder: Path) -> Iterator[bytes]:
    """The published file in pieces. Errors of the network become one line here, apart from those of the disk."""
    try:
        with urllib.request.urlopen(published.url, timeout=TIMEOUT_SECONDS) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            read = 0
            while piece := answer.read(CHUNK_BYTES):
                read += len(piece)
                _show_progress(published.file, read, length)
                yield piece
        if read < length:  # a connection that closes early is no error to urllib
            raise ConnectionError(f"broke off after {read} of {length} bytes")
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise InputError(
            f"the weights of {name} are not in {folder} and cannot be fetched ({reason.splitlines()[0]}); "
            f"get {published.url} and put {published.file} into {folder}, or give the file itself "
            f"(--weights {name}=FILE)."
        ) from None


def _show_progress(file: str, read: int, length: int) -> None:
    """Megabytes so far, on a terminal alone."""
    if on_terminal():
        of = f" of {length / MEGABYTE:.0f}" if length else ""
        end = "\n" if read == length else ""
        say(f"\r{file}: {read / MEGABYTE:.0f}{of} MB", end=end)
