"""Whether a folder's run may be gone on with: its settings compared, and no second run in it. Knows no tensors."""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unclip.config import Config
from unclip.errors import InputError, TrainingError
from unclip.training.config import TrainConfig

__all__ = ["check_config", "sole_run"]

LOCK = ".lock"
# What may change between two parts of one run without being asked: its length, what it reports, and how the same
# numbers are computed.
FREE = {
    "num_images",
    "checkpoint_images",
    "preview_images",
    "validation_images",
    "keep_checkpoints",
    "trackers",
    "micro_batch_size",
    "strategy",
    "activation_checkpointing",
    "compile",
    "data.num_workers",
}
# What power-function averages are made of from the first step on.
AVERAGES = {"ema", "ema_sigma_rel"}


def check_config(path: Path, stored: str, config: TrainConfig, allow_changes: bool) -> list[str]:
    """Compare the settings that wrote `path` with `config`; returns a note of what changes.

    Raises `TrainingError` with all differences unless `allow_changes`, and for another stage and for other averages in
    any case. What a stored one lacks had its default.
    """
    before, now = json.loads(stored), json.loads(config.model_dump_json())
    if before["task"]["kind"] != now["task"]["kind"]:
        raise TrainingError(f"{path} is of a {before['task']['kind']}, not of a {config.task.kind}; use another --out.")
    differences = _differences(before, now, _defaults(config))
    changed = [f"{name}: {old!r} there, {new!r} asked" for name, (old, new) in differences.items() if name not in FREE]
    if not changed:
        return []
    if allow_changes and "power" in (before["ema"], now["ema"]) and differences.keys() & AVERAGES:
        raise TrainingError(
            f"{path} has other averages ({'; '.join(changed)}), which need the weights of all steps before; keep those "
            "settings, or use another --out."
        )
    if not allow_changes:
        raise TrainingError(
            f"{path} was written with other settings ({'; '.join(changed)}); use another --out, or --allow-changes."
        )
    return [f"settings change from here on: {'; '.join(changed)}"]


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; where nothing is written to it, it is taken away again with the folders above it.

    Raises `InputError` when another process trains in it, or it is the folder of a model.
    """
    _refuse_model(folder)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose a writable folder with room.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another run trains in {folder}; stop it first, or use another --out.") from None
        try:
            yield
        finally:
            _leave_nothing(folder, made)


def _refuse_model(folder: Path) -> None:
    """A run writes a `config.json` and a stage of its own: those of a model would be gone."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(content, dict) and content.get("format") == "unclip":
        raise InputError(f"{folder} is the folder of a model, whose files a run would replace; use another --out.")


def _leave_nothing(folder: Path, made: Sequence[Path]) -> None:
    """Take the folders away that were made for a run which was refused before it wrote anything."""
    if [path.name for path in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _defaults(config: Config, prefix: str = "") -> dict[str, Any]:
    """Every field's default by dotted name, of the settings and the ones inside them, as JSON has it."""
    found: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            found |= _defaults(value, f"{prefix}{name}.")
        elif not field.is_required():
            found[prefix + name] = field.get_default(call_default_factory=True)
    return json.loads(json.dumps(found, default=str))


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """The settings of `now` that differ from `before`; those that are gone change nothing."""
    found: dict[str, tuple[Any, Any]] = {}
    for key, new in now.items():
        name = prefix + key
        old = before.get(key, defaults.get(name))
        if isinstance(old, dict) and isinstance(new, dict):
            found |= _differences(old, new, defaults, f"{name}.")
        elif old != new:
            found[name] = (old, new)
    return found
