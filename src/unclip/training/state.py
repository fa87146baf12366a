"""The state of a run: checkpoints, and resuming from them."""

import fcntl
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, load_tensors, load_weights, read_metadata, write_tensors
from unclip.config import Config
from unclip.errors import CheckpointError, InputError, TrainingError
from unclip.training.averages import Averages, Snapshot, save_snapshot, snapshot_files, snapshot_images
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.optimizer import LossScale, Optimizers

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


BEST = "best.safetensors"
METADATA = {"position", "config", "loss_scale", "best_loss"}


class Position(NamedTuple):
    """Where a run is."""

    step: int = 0
    images_seen: int = 0


class Resumed(NamedTuple):
    """Where a run goes on, and what the user should be told."""

    position: Position
    notes: list[str]


class _Found(NamedTuple):
    """The newest whole checkpoint of a folder; without any, no metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] | None
    notes: list[str]


@dataclass(eq=False)
class TrainState:
    """The network, its averages and its optimiser."""

    network: nn.Module
    wrapped: nn.Module
    """What is called: the network itself, or what exchanges its gradients with other processes."""
    averages: Averages
    optimizer: Optimizers
    loss_scale: LossScale
    cluster: Cluster
    best_loss: float = float("inf")
    """Least held-out loss of the average so far."""

    def save(self, path: Path, position: Position, config: TrainConfig) -> None:
        """Write a checkpoint atomically; every process takes part, the first one writes.

        Raises `TrainingError` where weights or averages are not finite, and writes nothing then.
        """
        metadata = {
            "position": json.dumps(position),
            "config": config.model_dump_json(),
            "loss_scale": json.dumps(self.loss_scale),
            "best_loss": json.dumps(self.best_loss),
            "storage": "float32",
        }

        def write(tensors: Mapping[str, LazyTensor]) -> None:
            checked = {name: _finite(name, tensor, position, config) for name, tensor in tensors.items()}
            write_tensors(path, checked, metadata)

        self.cluster.write(self.tensors(), write)

    def save_newest(self, folder: Path, position: Position, config: TrainConfig) -> None:
        """Write `folder/checkpoint-<step>.safetensors` and keep the last `config.keep_checkpoints`."""
        newest = folder / f"checkpoint-{position.step:08d}.safetensors"
        self.save(newest, position, config)
        self.cluster.by_first(lambda: _remove([path for path in checkpoints(folder) if path != newest], config))

    def set_aside_after(self, folder: Path, position: Position) -> list[str]:
        """Rename what a run wrote after `position`, to which it goes back; returns a note for each file."""
        return self.cluster.tell(self.cluster.by_first(lambda: _set_aside_after(folder, position)))

    def save_averages(self, folder: Path, position: Position) -> None:
        """Keep the power-function averages as they are now, so that any other width can be made of them."""
        if self.averages.rule.kind == "classic":
            return
        for sigma_rel, average in zip(self.averages.rule.sigma_rel, self.averages.networks, strict=True):
            self.cluster.write(average.state_dict(), partial(_keep, folder, position.images_seen, sigma_rel))

    def resume(self, folder: Path, config: TrainConfig, allow_changes: bool = False) -> Resumed:
        """Restore the newest whole checkpoint of `folder`, and tell what was found on the way there.

        Files that are damaged, and those of later steps, are set aside under another name. Raises `TrainingError` with
        the differences when other settings wrote the checkpoint, unless `allow_changes`, and for averages of another
        kind in any case.
        """
        found = self.cluster.by_first(lambda: _newest_whole(folder, config, allow_changes))
        whole, metadata, notes = found or _Found({}, None, [])
        metadata, notes = self.cluster.tell((metadata, notes))
        if metadata is None:
            return Resumed(Position(), notes)
        self.restore(whole)
        self.loss_scale = LossScale(*json.loads(metadata["loss_scale"]))
        self.best_loss = json.loads(metadata["best_loss"])
        return Resumed(Position(*json.loads(metadata["position"])), notes)

    def tensors(self) -> dict[str, Tensor]:
        """All of the state by name, each tensor as this process holds it."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for number, average in enumerate(self.averages.networks):
            named |= {f"average.{number}.{name}": tensor for name, tensor in average.state_dict().items()}
        return named | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def restore(self, whole: dict[str, Tensor]) -> None:
        """Take over the first process's tensors; the others' `whole` is not looked at. Strict."""
        averages = {f"average.{number}.": average for number, average in enumerate(self.averages.networks)}
        for prefix, network in {"network.": self.network, **averages}.items():
            # One after the other: each is there twice until it is copied.
            part = self.cluster.spread(_part(whole, prefix), network.state_dict().get)
            load_weights(network, part, "the checkpoint")
        self.optimizer.restore(self.cluster.spread(_part(whole, "optimizer."), self.optimizer.owner))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; other files are not looked at, whatever they are called."""
    return [path for _, path in sorted((_step(path), path) for path in folder.glob("checkpoint-*") if _step(path) >= 0)]


def _step(path: Path) -> int:
    """The step of a checkpoint; -1 for a file of another name."""
    named = re.fullmatch(r"checkpoint-(\d{8,})\.safetensors", path.name)
    return int(named[1]) if named else -1


def _newest_whole(folder: Path, config: TrainConfig, allow_changes: bool) -> _Found:
    """The newest checkpoint that can be read, the damaged ones being set aside; with notes of that and of changes.

    Raises `TrainingError` as `check_config` does, before anything is renamed.
    """
    damaged: dict[Path, CheckpointError] = {}
    whole = _Found({}, None, [])
    for path in reversed(checkpoints(folder)):
        try:
            tensors, metadata = load_tensors(path)
            if not metadata.keys() >= METADATA:
                raise CheckpointError(f"{path} is no checkpoint of a run.")
        except CheckpointError as error:
            damaged[path] = error
            continue
        whole = _Found(tensors, metadata, check_config(path, metadata["config"], config, allow_changes))
        break
    notes = [
        f"skipped a damaged checkpoint, kept as {_set_aside(place).name}: {error}" for place, error in damaged.items()
    ]
    position = Position() if whole.metadata is None else Position(*json.loads(whole.metadata["position"]))
    notes += _set_aside_after(folder, position)
    if damaged:
        notes.append(f"going on from {path.name}" if whole.metadata else "begins anew: no checkpoint is whole")
    return _Found(whole.tensors, whole.metadata, notes + whole.notes)


def _set_aside_after(folder: Path, position: Position) -> list[str]:
    """Rename checkpoints, the best one and averages from beyond `position`: the run will write others there."""
    later = [path for path in checkpoints(folder) if _step(path) > position.step]
    later += [path for path in snapshot_files(folder) if snapshot_images(path) > position.images_seen]
    if (folder / BEST).exists() and not _is_whole(folder / BEST, position):
        later.append(folder / BEST)
    return [
        f"{path.name} is damaged or of a later step than {position.step}; it is kept as {_set_aside(path).name}"
        for path in later
    ]


def _is_whole(path: Path, position: Position) -> bool:
    """Whether a checkpoint can be read and is not of a later step than `position`."""
    try:
        return Position(*json.loads(read_metadata(path)["position"])).step <= position.step
    except (CheckpointError, KeyError, TypeError, ValueError):
        return False


def _set_aside(path: Path) -> Path:
    """Rename a file so that nothing reads, replaces or removes it; returns its new path."""
    names = (path.with_name(f"{path.name}.aside-{number}") for number in itertools.count(1))
    free = next(name for name in names if not name.exists())
    try:
        return path.rename(free)
    except OSError as error:
        raise InputError(f"cannot rename {path}: {error.strerror}; choose a writable folder.") from None


def _remove(others: Sequence[Path], config: TrainConfig) -> None:
    """Remove all checkpoints but the newest, of which one has been written besides `others`."""
    try:
        for path in others[: len(others) + 1 - config.keep_checkpoints]:
            path.unlink()
    except OSError as error:
        raise InputError(f"cannot remove {path}: {error.strerror}; choose a writable folder.") from None


def _finite(name: str, tensor: LazyTensor, position: Position, config: TrainConfig) -> LazyTensor:
    """The same tensor; reading weights or averages that are not finite raises `TrainingError`."""

    def read() -> Tensor:
        values = tensor.read()
        if name.startswith(("network.", "average.")) and not bool(torch.isfinite(values).all()):
            raise TrainingError(
                f"{name} is not finite at step {position.step}, so nothing was saved; lower optimizer.learning_rate "
                f"(now {config.optimizer.learning_rate}) and go on with --allow-changes from the checkpoint before, "
                "if any."
            )
        return values

    return replace(tensor, read=read)


def _keep(folder: Path, images_seen: int, sigma_rel: float, tensors: dict[str, LazyTensor]) -> None:
    save_snapshot(folder, Snapshot(images_seen, sigma_rel, tensors))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
