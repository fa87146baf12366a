"""Feature networks by name, and where their weights come from."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from unclip.checkpoint import file_hash, fill
from unclip.data import cache_folder
from unclip.errors import CheckpointError, DownloadError, InputError, did_you_mean
from unclip.files import download, expand_home
from unclip.interop import open_weights
from unclip.metrics import ClipFeatures, DinoFeatures, DinoV2, FeatureNetwork, Inception, InceptionFeatures, dino_config
from unclip.model.opening import open_clip
from unclip.progress import on_terminal, say
from unclip.runtime import on_meta, resolve_device


class PublishedWeights(NamedTuple):
    """A published weights file."""

    url: str
    sha256: str
    other_names: tuple[str, ...] = ()
    """Names that the same content has elsewhere."""

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.url.rpartition("/")[2]


def _dinov2(size: str, sha256: str) -> PublishedWeights:
    return PublishedWeights(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}/dinov2_{size}_pretrain.pth", sha256)


# The publisher of DINOv2 names no SHA-256: these were recorded by several independent projects.
PUBLISHED = {
    "inception": PublishedWeights(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ("pt_inception-2015-12-05-6726825d.pth",),
    ),
    "dinov2-vits14": _dinov2("vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    "dinov2-vitb14": _dinov2("vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    "dinov2-vitl14": _dinov2("vitl14", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
    "dinov2-vitg14": _dinov2("vitg14", "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3"),
}

CLIP = "clip:"
COUNTER = "num_batches_tracked"


def open_features(
    name: str, weights: Path | str | None = None, device: torch.device | str = "auto", cache: Path | None = None
) -> FeatureNetwork:
    """Open the network called `name`: "inception", "dinov2-vits14" (vitb14, vitl14, vitg14), or "clip:MODEL".

    MODEL is anything that `open_clip` takes. The weights of the others are the file `weights`, as safetensors or as
    published; without it the published file in the folder `cache` (the variable UNCLIP_CACHE, or `~/.cache/unclip`),
    which is downloaded if necessary. Raises `InputError` for an unknown name and for missing weights,
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
    torch_device = resolve_device(str(device))
    path = find_weights(name, PUBLISHED[name], cache) if weights is None else expand_home(weights)
    with on_meta():
        network = Inception() if name == "inception" else DinoV2(dino_config(name))
    # Every tensor but the batch counters of normalisations.
    tensors = {key: tensor for key, tensor in open_weights(path).tensors.items() if not key.endswith(COUNTER)}
    fill(network, tensors, path, torch_device)
    return InceptionFeatures(network) if isinstance(network, Inception) else DinoFeatures(network, name)


def find_weights(name: str, published: PublishedWeights, cache: Path | None = None) -> Path:
    """Return the weights file of the network `name` in the folder `cache`, downloaded if necessary.

    A file in the published format has to have the published SHA-256. Raises `InputError` with file, source and folder
    if there is no file and none can be downloaded; `CheckpointError` for a damaged one.
    """
    folder = cache_folder() if cache is None else cache
    for file in (published.file, *published.other_names, f"{Path(published.file).stem}.safetensors"):
        if (folder / file).exists():
            if (folder / file).suffix == ".pth":  # safetensors are another file, written by someone else
                _check_hash(folder / file, folder / file, published.sha256)
            return folder / file
    path = folder / published.file
    try:
        download(
            published.url,
            path,
            progress=partial(_show_megabytes, published.file),
            check=lambda temporary: _check_hash(temporary, path, published.sha256),
        )
    except DownloadError as error:
        raise InputError(
            f"the weights of {name} are not in {folder} and cannot be fetched ({error}); get {published.url} and put "
            f"{published.file} into {folder}, or give the file itself (--weights {name}=FILE)."
        ) from None
    return path


def _check_hash(content: Path, path: Path, sha256: str) -> None:
    actual = file_hash(content)
    if actual != sha256:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 starts with {actual[:8]}, not {sha256[:8]}; remove it, and fetch it again."
        )


def _show_megabytes(file: str, done: int, length: int) -> None:
    """Show the megabytes so far, on a terminal alone."""
    if on_terminal():
        total = f" of {length / 1e6:.0f}" if length else ""
        say(f"\r{file}: {done / 1e6:.0f}{total} MB", end="\n" if done == length else "")
