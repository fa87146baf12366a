"""Averages of weights: kept while training, and of any width afterwards, made from snapshots (EDM2, section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, open_weights, read_metadata, write_tensors
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.training.config import TrainConfig

RAMP_UP = 0.1
"""Longest half-life of a classic average, as a share of the images seen."""
WIDEST = 12**-0.5
"""Width of the widest profile, that of exponent 0: it is uniform, with this deviation as a share of the time."""
FOLDER = "averages"
Tensors: TypeAlias = Mapping[str, LazyTensor]
"""The state of a network by name."""


class Averages:
    """Copies of a network that follow its weights, each at its own pace; buffers are copied.

    `networks` hold the values of the network at the start, one copy for each average of `rule`; where the network is
    sharded they are sharded in the same way. They are frozen and set to evaluation.
    """

    def __init__(self, networks: Sequence[nn.Module], rule: "AverageRule") -> None:
        assert len(networks) == len(rule), f"{len(networks)} networks for {len(rule)} averages"
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self.rule = rule

    @torch.no_grad()
    def update(self, network: nn.Module, batch_size: int, images_seen: int) -> None:
        """Move the averages towards `network`, which has now seen `images_seen` images."""
        for average, weight in zip(self.networks, self.rule.weights(batch_size, images_seen), strict=True):
            averaged: list[Tensor] = [*average.parameters()]
            trained: list[Tensor] = [*network.parameters()]
            assert len(averaged) == len(trained), f"{len(averaged)} parameters are averaged, {len(trained)} trained"
            torch._foreach_lerp_(averaged, trained, weight)
            for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
                kept.copy_(buffer)


@dataclass(frozen=True)
class AverageRule:
    """How far averages move towards the weights after each step.

    There is one classic average, or a power-function average for each width. Raises `ConfigError` for widths that no
    profile has.
    """

    half_life: float | None = None
    """Of the classic average, in images; at most a tenth of those seen."""
    sigma_rel: tuple[float, ...] = ()
    """Widths of the power-function averages, as shares of the images seen."""

    def __post_init__(self) -> None:
        if self.half_life is None and not self.sigma_rel:
            raise ConfigError("a power-function average needs a width; give ema_sigma_rel one, such as 0.05.")
        for width in self.sigma_rel:
            power_exponent(width)

    @classmethod
    def of(cls, config: TrainConfig) -> "AverageRule":
        """Make the rule of a run."""
        return cls(config.ema_images) if config.ema == "classic" else cls(sigma_rel=config.ema_sigma_rel)

    def __len__(self) -> int:
        return len(self.sigma_rel) or 1

    # EDM2, section 3.1, in images: beta = (1 - batch / images)^(gamma + 1). The first batch replaces the average.
    def weights(self, batch_size: int, images_seen: int) -> tuple[float, ...]:
        """Return each average's share of the way to the weights; `images_seen` include the last batch."""
        if self.half_life is not None:
            return (1.0 - ema_decay(batch_size, images_seen, self.half_life),)
        kept = 1.0 - batch_size / images_seen
        return tuple(1.0 - kept ** (power_exponent(width) + 1.0) for width in self.sigma_rel)


def ema_decay(batch_size: int, images_seen: int, half_life: float) -> float:
    """Weight of the old average after one batch; the half-life is at most a tenth of the images seen (EDM2, G.1)."""
    return float(0.5 ** (batch_size / max(1.0, min(half_life, RAMP_UP * images_seen))))


# EDM2 (arXiv 2312.02696), section 3.1: sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2), solved.
def power_exponent(sigma_rel: float) -> float:
    """Exponent gamma of the profile t^gamma whose standard deviation is `sigma_rel` times the time trained.

    Raises `ConfigError` outside (0, 0.2887), the deviation of a uniform profile.
    """
    if not 0 < sigma_rel < WIDEST:
        raise ConfigError(f"sigma_rel={sigma_rel} is no width of an average; give one above 0 and below {WIDEST:.4f}.")
    inverse = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


class Profile(NamedTuple):
    """Weight of each moment in an average: (gamma + 1) t^gamma / T^(gamma + 1) for t in [0, T]."""

    images_seen: int
    """T, the moment that the average was taken, in images."""
    sigma_rel: float
    """Standard deviation of the profile, as a share of T; `power_exponent` makes gamma of it."""


def save_snapshot(folder: Path, profile: Profile, tensors: Tensors) -> Path:
    """Write the average of a profile to `folder/averages/<images>-<width>.safetensors`, atomically; returns its path.

    One tensor is in memory at a time.
    """
    path = folder / FOLDER / f"{profile.images_seen:012d}-{profile.sigma_rel:g}.safetensors"
    metadata = {"images_seen": str(profile.images_seen), "sigma_rel": repr(profile.sigma_rel)}
    write_tensors(path, tensors, {"kind": "average", "storage": "float32", **metadata})
    return path


def load_snapshots(folder: Path) -> dict[Profile, Tensors]:
    """Open what `save_snapshot` wrote to `folder`, oldest first, without reading tensors.

    Raises `CheckpointError` for a file that is damaged or of another kind.
    """
    snapshots: dict[Profile, Tensors] = {}
    for path in snapshot_files(folder):
        tensors, metadata = open_weights(path)
        try:
            snapshots[Profile(int(metadata["images_seen"]), float(metadata["sigma_rel"]))] = tensors
        except (KeyError, ValueError):
            raise CheckpointError(f"{path} is no snapshot of an average; move it out of {FOLDER}/.") from None
    return snapshots


def snapshot_files(folder: Path) -> list[Path]:
    """List the files that `save_snapshot` wrote to `folder`, oldest first."""
    return sorted((folder / FOLDER).glob("*.safetensors"))


def snapshot_images(path: Path) -> int:
    """Read the images seen from the name of a snapshot's file; -1 for a file of another name."""
    images = path.name.partition("-")[0]
    return int(images) if images.isdecimal() else -1


class StageAverage(NamedTuple):
    """An average that was made of stored ones."""

    images_seen: int
    """The moment that the average is of."""
    num_snapshots: int
    """Stored averages that it is made of."""
    error: float
    """That of the profile, see `fit_profile`."""


def average_stage(run: Path, sigma_rel: float, out: Path, images_seen: int | None = None) -> StageAverage:
    """Write the stage of a run to `out` with its weights averaged over the width `sigma_rel`, as of `images_seen`.

    None is the moment of the newest snapshot. The file has the metadata of the stage that the run exported, and float32
    weights; one tensor is in memory at a time. Raises `InputError` for a run without snapshots or without a stage,
    `CheckpointError` for snapshots of different networks, and `ConfigError` for an impossible width.
    """
    snapshots = load_snapshots(run)
    if not snapshots:
        reason = "holds no stored averages" if run.is_dir() else "is no folder"
        raise InputError(f"{run} {reason}; give the folder of a run that was trained with --set ema=power.")
    moment = max(snapshots).images_seen if images_seen is None else images_seen
    tensors, average = reconstruct(snapshots, Profile(moment, sigma_rel))
    # The stage beside the checkpoints is the file that is called as its kind.
    files = sorted(path for path in run.glob("*.safetensors") if read_metadata(path).get("kind") == path.stem)
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise InputError(f"{run} has the stage of a run in one file, such as decoder.safetensors; found: {names}.")
    stage = open_weights(files[0])
    if _shapes(tensors) != _shapes(stage.tensors):
        raise CheckpointError(
            f"the averages in {run} are not of the network in {files[0].name}; keep those of one run."
        )
    write_tensors(out, tensors, stage.metadata | {"storage": "float32"})
    return average


def reconstruct(snapshots: Mapping[Profile, Tensors], wanted: Profile) -> tuple[dict[str, LazyTensor], StageAverage]:
    """Average over another profile, from the snapshots up to its moment.

    float32, each tensor computed when it is read; tensors of integers are those of the newest snapshot. Raises as
    `average_stage`.
    """
    profiles = sorted(profile for profile in snapshots if profile.images_seen <= wanted.images_seen)
    if not profiles:
        reason = f"the first was taken at {min(snapshots).images_seen}" if snapshots else "there is none"
        raise InputError(
            f"no snapshot of an average up to images={wanted.images_seen}: {reason}; train with ema=power."
        )
    newest = snapshots[profiles[-1]]
    for profile in profiles:
        differing = _shapes(snapshots[profile]).items() ^ _shapes(newest).items()
        if differing:
            raise CheckpointError(
                f"the snapshots at {profile.images_seen} and {profiles[-1].images_seen} images are of "
                f"different networks ({min(name for name, _ in differing)}); keep those of one run."
            )
    weights, error = fit_profile(profiles, wanted)
    mixed = {name: _mix([snapshots[profile][name] for profile in profiles], weights) for name in newest}
    return mixed, StageAverage(wanted.images_seen, len(profiles), error)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _mix(parts: Sequence[LazyTensor], weights: Sequence[float]) -> LazyTensor:
    newest = parts[-1]
    if not newest.dtype.is_floating_point:
        return newest

    def read() -> Tensor:
        # In float64, where weights of either sign that add up to 1 give back a constant to the last bit of float32.
        total = torch.zeros(newest.shape, dtype=torch.float64)
        for part, weight in zip(parts, weights, strict=True):
            total.add_(part.read().double(), alpha=weight)
        return total.float()

    return LazyTensor(newest.shape, torch.float32, read)


def fit_profile(stored: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """Find the sum of stored profiles that lies nearest to another, by least squares.

    Returns their weights, which add up to 1, and the error: the distance to the wanted profile over its length (root of
    the integral of the square).
    """
    products = inner_products([*stored, wanted])
    # Neighbouring profiles are all but parallel, so the matrix may be singular to the last digit.
    weights, *_ = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=None)
    weights = weights / weights.sum()
    difference = np.array([*weights, -1.0])
    square = difference @ products @ difference / products[-1, -1]
    return weights.tolist(), float(np.sqrt(max(square, 0.0)))


# EDM2, appendix C: the integral of p_a p_b over the time that both cover.
def inner_products(profiles: Sequence[Profile]) -> np.ndarray:
    """Compute the scalar products of all pairs of profiles, float64 (profiles, profiles), per image."""
    time = np.array([float(profile.images_seen) for profile in profiles])
    gamma = np.array([power_exponent(profile.sigma_rel) for profile in profiles])
    first, last = np.minimum.outer(time, time), np.maximum.outer(time, time)
    gamma_last = np.where(np.less.outer(time, time), gamma[None, :], gamma[:, None])
    scale = np.multiply.outer(gamma + 1.0, gamma + 1.0) / (np.add.outer(gamma, gamma) + 1.0)
    products: np.ndarray = scale * (first / last) ** gamma_last / last
    return products
