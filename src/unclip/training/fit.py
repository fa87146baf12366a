"""Whether the network of a run fits the frozen CLIP and the stored embeddings that it is trained on.

Reads headers alone: a run that cannot work is refused before its pictures are read.
"""

import json
from collections.abc import Collection
from pathlib import Path

from unclip.checkpoint import read_metadata
from unclip.clip import ClipConfig
from unclip.config import load_config, override
from unclip.data import EmbeddingSet
from unclip.errors import ConfigError
from unclip.pipelines.fit import Part, sizes_of
from unclip.training.config import ClipTaskConfig, TrainConfig, UpsamplerTaskConfig

__all__ = ["adopt_sizes", "check_run", "stored_clip"]

MODEL = "task.model."


def check_run(config: TrainConfig, clip: ClipConfig | None = None) -> None:
    """Raise `ConfigError` where the network's sizes differ from those of its CLIP or of its stored embeddings.

    The error names the settings and the values that fit. `clip` is the shape of a CLIP that is not in its folder yet.
    Files that are missing are not looked at.
    """
    parts = {name: {size.what: size.number for size in sizes_of(part)} for name, part in _read_by(config, clip).items()}
    problems: list[str] = []
    changes: list[str] = []
    for what, own, field in sizes_of(config.task.model):
        numbers = {name: sizes[what] for name, sizes in parts.items() if what in sizes}
        shown = " and ".join(f"{number} in {name}" for name, number in numbers.items())
        if len(set(numbers.values())) > 1:
            raise ConfigError(f"the {what} is {shown}; name the CLIP that made the embeddings, or embed again with it.")
        if numbers and own not in numbers.values():
            problems.append(f"{MODEL}{field}={own}, but the {what} is {shown}")
            changes.append(f"{MODEL}{field}={min(numbers.values())}")
    if problems:
        raise ConfigError(f"the {config.task.kind} does not fit: {'; '.join(problems)}; set {' '.join(changes)}.")


def adopt_sizes(config: TrainConfig, chosen: Collection[str] = ()) -> tuple[TrainConfig, list[str]]:
    """The run with the sizes of the CLIP and the embeddings that it names, and the changes as `key=value`.

    Settings in `chosen` (dotted names) keep their values.
    """
    changes: list[str] = []
    for part in _read_by(config, None).values():
        for what, number, _ in sizes_of(part):
            # Looked up anew: some sizes are those of others unless they are set.
            own = {size.what: size for size in sizes_of(config.task.model)}.get(what)
            name = MODEL + own.field if own else ""
            if own and own.number != number and name not in chosen:
                config = override(config, {name: str(number)})
                changes.append(f"{name}={number}")
    return config, changes


def stored_clip(folder: Path) -> ClipConfig | None:
    """The shape of the CLIP in a folder; None where there is none."""
    path = folder / "clip.safetensors"
    metadata = read_metadata(path) if path.exists() else {}
    # A file of another kind is refused where it is loaded.
    return load_config(ClipConfig, json.loads(metadata["config"])) if metadata.get("kind") == "clip" else None


def _read_by(config: TrainConfig, clip: ClipConfig | None) -> dict[str, Part]:
    """What the run reads that has sizes, by what it is called in messages."""
    if isinstance(config.task, ClipTaskConfig | UpsamplerTaskConfig):
        return {}
    parts: dict[str, Part] = {}
    if config.task.clip is not None and (shape := stored_clip(config.task.clip) or clip):
        parts[f"the CLIP {config.task.clip}"] = shape
    location = config.data.embeddings
    if location is not None and Path(location).is_dir():
        parts[f"the embeddings {location}"] = EmbeddingSet.open(location)
    return parts
