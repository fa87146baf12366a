"""Feature networks by name, and where their weights come from."""

import http.client
import re
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from unclip.checkpoint import file_hash, fill
from unclip.data import cache_folder
from unclip.errors import CheckpointError, InputError, did_you_mean
from unclip.files import atomic_path, expand_home
from unclip.interop import open_weights
from unclip.metrics import ClipFeatures, DinoFeatures, DinoV2, FeatureNetwork, Inception, InceptionFeatures, dino_config
from unclip.model.opening import open_clip
from unclip.progress import on_terminal, say
from unclip.runtime import resolve_device

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
MEGABYTE = 1e6


class Published(NamedTuple):
    """Where weights are published, and the file names under which they are looked for."""

    url: str
    others: tuple[str, ...] = ()
    """Names that the same content has elsewhere."""
    sha256: str | None = None
    """The SHA-256 of the published file, where it is known."""

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.url.rpartition("/")[2]

    @property
    def digits(self) -> str | None:
        """The SHA-256, or the first eight digits of it that the published name carries; None where neither is known."""
        in_name = re.search(r"-([0-9a-f]{8})\.pth$", self.file)
        return self.sha256 or (in_name[1] if in_name else None)

    @property
    def files(self) -> tuple[str, ...]:
        """All names, in the order in which they are looked for."""
        return (self.file, *self.others, f"{Path(self.file).stem}.safetensors")


PUBLISHED = {
    "inception": Published(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ("pt_inception-2015-12-05-6726825d.pth",),
    ),
    # Their publisher names no SHA-256: what is fetched is what the address gives.
    **{
        f"dinov2-{size}": Published(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}/dinov2_{size}_pretrain.pth")
        for size in ("vits14", "vitb14", "vitl14", "vitg14")
    },
}


def find_weights(name: str, published: Published, cache: Path | None = None) -> Path:
    """The weights file of the network `name` in the folder `cache`, fetched into it if it is not there.

    A file of torch whose SHA-256 is published is checked against it; of others a note on stderr gives the SHA-256 of
    what was fetched, to compare and to pin. Raises `InputError` where the file is not there and cannot be fetched,
    naming file, source and folder; `CheckpointError` where it is damaged.
    """
    folder = cache_folder() if cache is None else cache
    for path in (folder / file for file in published.files):
        if path.exists():
            _check_hash(path, path, published)
            return path
    path = folder / published.file
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for piece in _fetch(name, published, folder):
                file.write(piece)
        _check_hash(temporary, path, published)
    if published.digits is None:
        say(f"{path}: no SHA-256 is published to check it by; it has {file_hash(path)}.")
    return path


def _check_hash(content: Path, named: Path, published: Published) -> None:
    """Compare `content` with what is known of its SHA-256; safetensors are another file, written by someone else."""
    wanted = published.digits
    if wanted is not None and named.suffix == ".pth" and not (found := file_hash(content)).startswith(wanted):
        raise CheckpointError(
            f"{named} is damaged: its SHA-256 starts with {found[:8]}, not {wanted[:8]}; remove it, and fetch it again."
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


N = TypeVar("N", bound=nn.Module)

CLIP = "clip:"
COUNTER = "num_batches_tracked"


def open_features(
    name: str, weights: Path | str | None = None, device: torch.device | str = "auto", cache: Path | None = None
) -> FeatureNetwork:
    """The network called `name`: "inception", "dinov2-vits14" (vitb14, vitl14, vitg14), or "clip:MODEL".

    MODEL is anything that `open_clip` takes. The weights of others are the file `weights`, safetensors or as published;
    else the published file in the folder `cache`, which is the variable UNCLIP_CACHE or `~/.cache/unclip`,
    and where it is fetched to if need be. Raises `InputError` for an unknown name and where there are no weights,
    `CheckpointError` for weights that are damaged or of another network.
    """
    if name.startswith(CLIP):
        model = name.removeprefix(CLIP)
        if weights is not None:
            raise InputError(
                f"{name} names a model with weights of its own, found weights={weights} too; leave it out."
            )
        return ClipFeatures(open_clip(model, device), model)
    if name not in PUBLISHED:
        raise InputError(f"there is no feature network {name!r}; {did_you_mean(name, (*PUBLISHED, 'clip:MODEL'))}")
    place = resolve_device(str(device))
    path = find_weights(name, PUBLISHED[name], cache) if weights is None else expand_home(weights)
    if name == "inception":
        return InceptionFeatures(_filled(Inception, path, place))
    return DinoFeatures(_filled(partial(DinoV2, dino_config(name)), path, place), name)


def _filled(build: Callable[[], N], path: Path, device: torch.device) -> N:
    """A network with the weights of a file, strictly; how many batches a normalisation saw is none of them."""
    with torch.device("meta"):
        network = build()
    tensors = open_weights(path).tensors
    fill(network, {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}, path, device)
    return network
