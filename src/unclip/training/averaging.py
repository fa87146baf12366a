"""A stage from the stored averages of its run. Knows the run's folder and the stage's file; no mathematics."""

from pathlib import Path
from typing import NamedTuple

from unclip.checkpoint import open_weights, read_metadata, write_tensors
from unclip.errors import CheckpointError, InputError
from unclip.training.post_hoc import Profile, fit_profile, load_snapshots, reconstruct, usable

__all__ = ["StageAverage", "average_stage"]


class StageAverage(NamedTuple):
    """What `average_stage` wrote."""

    images_seen: int
    """The moment that the average is of."""
    num_snapshots: int
    """Stored averages that it is made of."""
    error: float
    """That of the profile, see `Fit`."""


def average_stage(run: Path, sigma_rel: float, out: Path, images_seen: int | None = None) -> StageAverage:
    """Write the stage of a run to `out` with its weights averaged over the width `sigma_rel`, as of `images_seen`.

    The newest snapshot says when where `images_seen` is None. The file has the metadata of the stage that the run
    exported, and float32 weights; one tensor is in memory at a time. Raises `InputError` where the run has no snapshots
    or no stage, `CheckpointError` where they are not of one network, and `ConfigError` for an impossible width.
    """
    snapshots = load_snapshots(run)
    if not snapshots:
        reason = "holds no stored averages" if run.is_dir() else "is no folder"
        raise InputError(f"{run} {reason}; give the folder of a run that was trained with --set ema=power.")
    moment = images_seen if images_seen is not None else max(found.images_seen for found in snapshots)
    tensors = reconstruct(snapshots, sigma_rel, moment)
    path = _exported(run)
    stage = open_weights(path)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != {name: tensor.shape for name, tensor in stage.tensors.items()}:
        raise CheckpointError(f"the averages in {run} are not of the network in {path.name}; keep those of one run.")
    write_tensors(out, tensors, stage.metadata | {"storage": "float32"})
    profiles = [snapshot.profile for snapshot in usable(snapshots, moment)]
    return StageAverage(moment, len(profiles), fit_profile(profiles, Profile(moment, sigma_rel)).error)


def _exported(run: Path) -> Path:
    """The stage that the run wrote beside its checkpoints: the file that is called as what it holds."""
    files = sorted(path for path in run.glob("*.safetensors") if read_metadata(path).get("kind") == path.stem)
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise InputError(f"{run} has the stage of a run in one file, such as decoder.safetensors; found: {names}.")
    return files[0]
