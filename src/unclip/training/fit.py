"""Check before training whether a run can work: sizes of networks and data, and what this machine has.

Reads headers alone, so that a run that fails is refused before its pictures are read.
"""

import json
from collections.abc import Collection
from pathlib import Path

import torch

from unclip.checkpoint import read_metadata
from unclip.clip import ClipConfig
from unclip.config import load_config, override
from unclip.data import EmbeddingSet
from unclip.errors import ConfigError
from unclip.model.checks import Part, sizes_of
from unclip.model.folder import open_network
from unclip.training.averages import AverageRule
from unclip.training.config import DecoderTaskConfig, PriorTaskConfig, TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.feed import rows_of_pass

MODEL = "task.model."


def check_run(config: TrainConfig, clip: ClipConfig | None = None) -> None:
    """Raise `ConfigError` if the network's sizes differ from those of its CLIP or of its stored embeddings.

    The error names the settings and the values that fit. `clip` is the shape of a CLIP that is not in its folder yet.
    Missing files are ignored.
    """
    parts = {name: {size.what: size.number for size in sizes_of(part)} for name, part in _inputs(config, clip).items()}
    fitting, changes = adopt_sizes(config, clip=clip)
    problems: list[str] = []
    for what, size, field in sizes_of(config.task.model):
        numbers = {name: sizes[what] for name, sizes in parts.items() if what in sizes}
        shown = " and ".join(f"{number} in {name}" for name, number in numbers.items())
        if len(set(numbers.values())) > 1:
            raise ConfigError(f"the {what} is {shown}; name the CLIP that made the embeddings, or embed again with it.")
        if any(change.startswith(f"{MODEL}{field}=") for change in changes):
            problems.append(f"{MODEL}{field}={size}, but the {what} is {shown}")
    if fitting != config:
        raise ConfigError(f"the {config.task.kind} does not fit: {'; '.join(problems)}; set {' '.join(changes)}.")


def check_options(config: TrainConfig, cluster: Cluster) -> None:
    """Raise `ConfigError` for settings that this machine or this number of processes cannot use.

    They would otherwise fail after the pictures have been read, or at the first step.
    """
    rows_of_pass(config, cluster.size)
    AverageRule.of(config)
    if config.compile:
        try:
            # Two operations: what torch needs to compile them differs between versions, systems and devices.
            torch.compile(lambda x: x + 1.0)(torch.zeros(2, device=cluster.device))
        except (RuntimeError, OSError, ImportError) as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"compile=true needs a compiler that torch can use on {cluster.device.type} ({reason.strip()}); "
                "install one, such as g++, or set compile=false."
            ) from None


def adopt_sizes(
    config: TrainConfig, chosen: Collection[str] = (), clip: ClipConfig | None = None
) -> tuple[TrainConfig, list[str]]:
    """Return the run with the sizes of the CLIP and the embeddings that it names, and the changes as `key=value`.

    Settings in `chosen` (dotted names) keep their values; `clip` is as for `check_run`.
    """
    changes: list[str] = []
    for part in _inputs(config, clip).values():
        for what, number, _ in sizes_of(part):
            # Looked up anew: some sizes follow others unless they are set.
            size = {size.what: size for size in sizes_of(config.task.model)}.get(what)
            name = MODEL + size.field if size else ""
            if size and size.number != number and name not in chosen:
                config = override(config, {name: str(number)})
                changes.append(f"{name}={number}")
    return config, changes


def stored_clip(folder: Path) -> ClipConfig | None:
    """Read the shape of the CLIP in a folder; None if there is none."""
    path = folder / "clip.safetensors"
    metadata = read_metadata(path) if path.exists() else {}
    # A file of another kind is refused where it is loaded.
    return load_config(ClipConfig, json.loads(metadata["config"])) if metadata.get("kind") == "clip" else None


def _inputs(config: TrainConfig, clip: ClipConfig | None) -> dict[str, Part]:
    """Return what the run reads that has sizes, by its name in messages."""
    if not isinstance(config.task, PriorTaskConfig | DecoderTaskConfig):
        return {}
    parts: dict[str, Part] = {}
    if config.clip is not None and (shape := stored_clip(config.clip) or clip):
        parts[f"the CLIP {config.clip}"] = shape
    if isinstance(config.task, DecoderTaskConfig) and (folder := config.task.autoencoder) is not None:
        path = folder / "autoencoder.safetensors"
        if path.exists():
            parts[f"the autoencoder {folder}"] = open_network(path, "autoencoder").config
    location = config.data.embeddings
    if location is not None and Path(location).is_dir():
        parts[f"the embeddings {location}"] = EmbeddingSet.open(location)
    return parts
