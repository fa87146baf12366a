"""Averages of any width from stored ones, after the run. Knows profiles and files of tensors; no network, no loop.

EDM2 (arXiv 2312.02696), section 3.2 and appendix C.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from unclip.checkpoint import LazyTensor, open_weights, save_tensors
from unclip.errors import CheckpointError, InputError
from unclip.training.ema import power_exponent

__all__ = [
    "Fit",
    "Profile",
    "Snapshot",
    "fit_profile",
    "load_snapshots",
    "reconstruct",
    "save_snapshot",
    "snapshot_files",
    "snapshot_images",
]

FOLDER = "averages"


class Profile(NamedTuple):
    """How much the weights at each moment count in an average: (gamma + 1) t^gamma / T^(gamma + 1) for t in [0, T]."""

    images_seen: int
    """T, the moment that the average was taken, in images."""
    sigma_rel: float
    """Standard deviation of the profile, as a share of T; `power_exponent` makes gamma of it."""


class Snapshot(NamedTuple):
    """A power-function average as it was during a run."""

    images_seen: int
    sigma_rel: float
    tensors: Mapping[str, LazyTensor]
    """The state of the averaged network by name."""

    @property
    def profile(self) -> Profile:
        """Of which weights it is the average."""
        return Profile(self.images_seen, self.sigma_rel)


class Fit(NamedTuple):
    """A profile as a weighted sum of others."""

    weights: tuple[float, ...]
    """One for each of the others; they add up to 1."""
    error: float
    """Distance to the wanted profile over the length of that (root of the integral of the square)."""


def fit_profile(stored: Sequence[Profile], wanted: Profile) -> Fit:
    """The sum of stored profiles that lies nearest to another, by least squares."""
    products = inner_products([*stored, wanted])
    # Neighbouring profiles are all but parallel, so the matrix may be singular to the last digit.
    weights, *_ = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=None)
    weights = weights / weights.sum()
    difference = np.array([*weights, -1.0])
    square = difference @ products @ difference / products[-1, -1]
    return Fit(tuple(weights.tolist()), float(np.sqrt(max(square, 0.0))))


# EDM2, appendix C: the integral of p_a p_b over the time that both cover.
def inner_products(profiles: Sequence[Profile]) -> np.ndarray:
    """Scalar products of all pairs of profiles, float64 (profiles, profiles), per image."""
    time = np.array([float(profile.images_seen) for profile in profiles])
    gamma = np.array([power_exponent(profile.sigma_rel) for profile in profiles])
    first, last = np.minimum.outer(time, time), np.maximum.outer(time, time)
    gamma_last = np.where(np.less.outer(time, time), gamma[None, :], gamma[:, None])
    scale = np.multiply.outer(gamma + 1.0, gamma + 1.0) / (np.add.outer(gamma, gamma) + 1.0)
    products: np.ndarray = scale * (first / last) ** gamma_last / last
    return products


def reconstruct(snapshots: Sequence[Snapshot], sigma_rel: float, images_seen: int) -> dict[str, LazyTensor]:
    """The average of width `sigma_rel` after `images_seen` images, from the snapshots until then.

    float32, each tensor computed when it is read; others than floating ones are those of the newest snapshot. Raises
    `InputError` where there is no snapshot, `CheckpointError` where they are of different networks, and `ConfigError`
    for an impossible width.
    """
    used = usable(snapshots, images_seen)
    _check_same(used)
    weights = fit_profile([snapshot.profile for snapshot in used], Profile(images_seen, sigma_rel)).weights
    return {name: _mixed([snapshot.tensors[name] for snapshot in used], weights) for name in used[0].tensors}


def usable(snapshots: Sequence[Snapshot], images_seen: int) -> list[Snapshot]:
    """The snapshots up to a moment, oldest first; raises `InputError` where there is none."""
    used = sorted((snapshot for snapshot in snapshots if snapshot.images_seen <= images_seen), key=lambda s: s.profile)
    if not used:
        first = min((snapshot.images_seen for snapshot in snapshots), default=None)
        found = "there is none" if first is None else f"the first was taken at {first}"
        raise InputError(f"no snapshot of an average up to images={images_seen}: {found}; train with ema=power.")
    return used


def save_snapshot(folder: Path, snapshot: Snapshot, storage: Literal["float32", "bfloat16"] = "float32") -> Path:
    """Write `folder/averages/<images>-<width>.safetensors`, atomically, and return its path."""
    path = folder / FOLDER / f"{snapshot.images_seen:012d}-{snapshot.sigma_rel:g}.safetensors"
    metadata = {"kind": "average", "images_seen": str(snapshot.images_seen), "sigma_rel": repr(snapshot.sigma_rel)}
    save_tensors(path, {name: lazy.read() for name, lazy in snapshot.tensors.items()}, metadata, storage)
    return path


def load_snapshots(folder: Path) -> list[Snapshot]:
    """What `save_snapshot` wrote to `folder`, oldest first, no tensor read yet.

    Raises `CheckpointError` for a file that is damaged or of another kind.
    """
    return [_load(path) for path in snapshot_files(folder)]


def snapshot_files(folder: Path) -> list[Path]:
    """The files that `save_snapshot` wrote to `folder`, oldest first."""
    return sorted((folder / FOLDER).glob("*.safetensors"))


def snapshot_images(path: Path) -> int:
    """The images seen by the snapshot in a file, by its name; -1 for a file that is called otherwise."""
    images = path.name.partition("-")[0]
    return int(images) if images.isdecimal() else -1


def _load(path: Path) -> Snapshot:
    tensors, metadata = open_weights(path)
    try:
        return Snapshot(int(metadata["images_seen"]), float(metadata["sigma_rel"]), tensors)
    except (KeyError, ValueError):
        raise CheckpointError(f"{path} is no snapshot of an average; move it out of {FOLDER}/.") from None


def _check_same(snapshots: Sequence[Snapshot]) -> None:
    shapes = [{name: tensor.shape for name, tensor in snapshot.tensors.items()} for snapshot in snapshots]
    for snapshot, found in zip(snapshots, shapes, strict=True):
        differing = [name for name, _ in found.items() ^ shapes[-1].items()]
        if differing:
            raise CheckpointError(
                f"the snapshots at {snapshot.images_seen} and {snapshots[-1].images_seen} images are of different "
                f"networks ({min(differing)}); keep those of one run."
            )


def _mixed(parts: Sequence[LazyTensor], weights: Sequence[float]) -> LazyTensor:
    newest = parts[-1]
    if not newest.dtype.is_floating_point:
        return newest

    def read() -> torch.Tensor:
        # In float64, where weights of either sign that add up to 1 give back a constant to the last bit of float32.
        total = torch.zeros(newest.shape, dtype=torch.float64)
        for part, weight in zip(parts, weights, strict=True):
            total.add_(part.read().double(), alpha=weight)
        return total.float()

    return LazyTensor(newest.shape, torch.float32, read)
