"""The state of a run: checkpoints in its folder, and resuming from them."""

import fcntl
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from unclip.checkpoint import Checkpoint, LazyTensor, load_tensors, load_weights, read_metadata, write_tensors
from unclip.config import Config
from unclip.errors import CheckpointError, InputError, TrainingError
from unclip.model.assemble import open_part
from unclip.training.averages import AverageRule, Averages, Profile, save_snapshot, snapshot_files, snapshot_images
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.memory import checkpoint_activations
from unclip.training.optimizer import LossScale, Optimizers, make_optimizers
from unclip.training.task import Task

BEST = "best.safetensors"
METADATA = {"position", "config", "loss_scale", "best_loss"}
LOCK = ".lock"
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
"""Settings that may change when a run resumes: its length, its reports, and how the same numbers are computed."""
AVERAGES = {"ema", "ema_sigma_rel"}
"""Settings of the power-function averages, which need all weights from the first step on."""


class Position(NamedTuple):
    """Where a run is."""

    step: int = 0
    images_seen: int = 0


START = Position()


@dataclass(eq=False)
class TrainState:
    """The network, its averages, its optimiser and where the run is: all that a checkpoint holds."""

    config: TrainConfig
    cluster: Cluster
    network: nn.Module
    wrapped: nn.Module
    """What is called to train: the network itself, or DDP around it."""
    averages: Averages
    optimizer: Optimizers
    loss_scale: LossScale
    position: Position = START
    last_finite: Position = START
    """Position after the last step that changed the weights, or where this run started or resumed."""
    has_learned: bool = False
    """Whether a step changed the weights since the run started or resumed."""
    best_loss: float = float("inf")
    """Least held-out loss of the average so far."""

    @classmethod
    def build(cls, task: Task, config: TrainConfig, cluster: Cluster) -> "TrainState":
        """Build the state before the first step; weights depend on the run's seed alone, or are those of `init`.

        Raises `CheckpointError` for weights of another shape.
        """
        rule, strategy = AverageRule.of(config), config.strategy
        make = task.build if config.init is None else partial(_start_from, config.init, config.stage, task)
        network, *copies = cluster.build(make, strategy, task.methods, num_copies=len(rule))
        if config.activation_checkpointing:
            checkpoint_activations(network)
        if config.compile:
            network.compile()
        wrapped = cluster.wrap(network, strategy)
        optimizer = make_optimizers(network, config.optimizer)
        scale = LossScale() if config.precision == "float16" else LossScale(1.0)
        return cls(config, cluster, network, wrapped, Averages(copies, rule), optimizer, scale)

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically; every process takes part, rank 0 writes.

        Raises `TrainingError` if weights or averages are not finite, and writes nothing then.
        """
        metadata = {
            "position": json.dumps(self.position),
            "config": self.config.model_dump_json(),
            "loss_scale": json.dumps(self.loss_scale),
            "best_loss": json.dumps(self.best_loss),
            "storage": "float32",
        }

        def read(name: str, tensor: LazyTensor) -> Tensor:
            values = tensor.read()
            if name.startswith(("network.", "average.")) and not bool(values.isfinite().all()):
                raise TrainingError(
                    f"{name} is not finite at step {self.position.step}, so nothing was saved; lower "
                    f"optimizer.learning_rate (now {self.config.optimizer.learning_rate}) and resume with "
                    "--allow-changes from the checkpoint before, if any."
                )
            return values

        def write(tensors: Mapping[str, LazyTensor]) -> None:
            checked = {name: replace(tensor, read=partial(read, name, tensor)) for name, tensor in tensors.items()}
            write_tensors(path, checked, metadata)

        self.cluster.gather_state(self.tensors(), write)

    def save_newest(self, folder: Path) -> None:
        """Write `folder/checkpoint-<step>.safetensors` and keep the last `config.keep_checkpoints`."""
        newest = folder / f"checkpoint-{self.position.step:08d}.safetensors"
        self.save(newest)

        def remove_oldest() -> None:
            others = [path for path in checkpoints(folder).values() if path != newest]
            for path in others[: len(others) + 1 - self.config.keep_checkpoints]:
                with os_errors(f"cannot remove {path}", "choose a writable folder"):
                    path.unlink()

        self.cluster.on_rank_zero(remove_oldest)

    def save_averages(self, folder: Path) -> None:
        """Write the power-function averages as they are now, so that any other width can be made of them."""
        # A classic average has no width.
        for sigma_rel, average in zip(self.averages.rule.sigma_rel, self.averages.networks, strict=False):
            profile = Profile(self.position.images_seen, sigma_rel)
            self.cluster.gather_state(average.state_dict(), partial(save_snapshot, folder, profile))

    def set_aside_later(self, folder: Path) -> list[str]:
        """Rename what a run wrote after the position to which it went back; returns a note for each file."""
        work = partial(_set_aside_later, folder, self.position)
        return self.cluster.broadcast_object(self.cluster.on_rank_zero(work))

    def resume(self, folder: Path, allow_changes: bool = False) -> list[str]:
        """Restore the newest readable checkpoint of `folder`, if there is one; returns notes for the user.

        Files that are damaged, and those of later steps, are renamed. Raises `TrainingError` with the differences when
        other settings wrote the checkpoint, unless `allow_changes`, and for averages of another kind in any case.
        """
        read = partial(_read_newest, folder, self.config, allow_changes)
        newest, notes = self.cluster.on_rank_zero(read) or (None, [])
        metadata, notes = self.cluster.broadcast_object((newest and newest.metadata, notes))
        if metadata is not None:
            self.restore(newest.tensors if newest else {})
            self.loss_scale = LossScale(*json.loads(metadata["loss_scale"]))
            self.best_loss = json.loads(metadata["best_loss"])
            self.position = self.last_finite = Position(*json.loads(metadata["position"]))
        return list(notes)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of the state by name, each tensor as this process holds it."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for number, average in enumerate(self.averages.networks):
            named |= {f"average.{number}.{name}": tensor for name, tensor in average.state_dict().items()}
        return named | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors of rank 0, strictly; what other processes pass is not read."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        averages = {f"average.{number}.": average for number, average in enumerate(self.averages.networks)}
        for prefix, network in {"network.": self.network, **averages}.items():
            # One network after the other: each is in memory twice until it is copied.
            state = self.cluster.scatter_state(part(prefix), network.state_dict().get)
            load_weights(network, state, "the checkpoint")
        self.optimizer.restore(self.cluster.scatter_state(part("optimizer."), self.optimizer.owner))


def _start_from(part: Path, stage: str, task: Task) -> nn.Module:
    """Build the network of a task and give it the weights of the same stage in a run, a file or a model."""
    network = task.build()
    # A process that receives its weights from another builds without them.
    if not next(network.parameters()).is_meta:
        weights = open_part(stage, part).networks[stage]
        load_weights(
            task.exported(network), {name: tensor.read() for name, tensor in weights.tensors.items()}, weights.source
        )
    return network


def _read_newest(folder: Path, config: TrainConfig, allow_changes: bool) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint that is not damaged and rename those that are; with notes of that and of changes.

    Raises `TrainingError` as `check_config` does, before anything is renamed.
    """
    damaged: dict[Path, CheckpointError] = {}
    newest, changes, position = None, list[str](), START
    for path in reversed(checkpoints(folder).values()):
        try:
            checkpoint = load_tensors(path)
            if not checkpoint.metadata.keys() >= METADATA:
                raise CheckpointError(f"{path} is no checkpoint of a run.")
        except CheckpointError as error:
            damaged[path] = error
            continue
        changes = check_config(path, checkpoint.metadata["config"], config, allow_changes)
        newest, position = checkpoint, Position(*json.loads(checkpoint.metadata["position"]))
        break
    notes = [f"skipped a damaged checkpoint, kept as {_set_aside(path).name}: {damaged[path]}" for path in damaged]
    notes += _set_aside_later(folder, position)
    if damaged:
        notes.append("begins anew: no checkpoint is whole" if newest is None else f"going on from {path.name}")
    return newest, notes + changes


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a run by their step, oldest first; files of other names are ignored."""
    paths = {path: re.fullmatch(r"checkpoint-(\d{8,})\.safetensors", path.name) for path in folder.glob("checkpoint-*")}
    return dict(sorted((int(match[1]), path) for path, match in paths.items() if match))


def _set_aside_later(folder: Path, position: Position) -> list[str]:
    """Rename checkpoints, the best one and averages from beyond `position`: the run will write others there."""
    later = [path for step, path in checkpoints(folder).items() if step > position.step]
    later += [path for path in snapshot_files(folder) if snapshot_images(path) > position.images_seen]
    best = folder / BEST
    try:
        if best.exists() and Position(*json.loads(read_metadata(best)["position"])).step > position.step:
            later.append(best)
    except (CheckpointError, KeyError, TypeError, ValueError):
        later.append(best)
    return [
        f"{path.name} is damaged or of a later step than {position.step}; it is kept as {_set_aside(path).name}"
        for path in later
    ]


def _set_aside(path: Path) -> Path:
    """Rename a file so that nothing reads, replaces or removes it; returns its new path."""
    names = (path.with_name(f"{path.name}.aside-{number}") for number in itertools.count(1))
    with os_errors(f"cannot rename {path}", "choose a writable folder"):
        return path.rename(next(name for name in names if not name.exists()))


def check_config(path: Path, stored: str, config: TrainConfig, allow_changes: bool) -> list[str]:
    """Compare the settings that wrote `path` with `config`; returns a note of what changes.

    Raises `TrainingError` with all differences unless `allow_changes`, and for another stage and for other averages in
    any case.
    """
    before = json.loads(stored)
    if before["task"]["kind"] != config.task.kind:
        raise TrainingError(f"{path} is of a {before['task']['kind']}, not of a {config.task.kind}; use another --out.")
    differences = _differences(before, config)
    changed = [f"{name}: {old!r} there, {new!r} asked" for name, (old, new) in differences.items() if name not in FREE]
    if not changed:
        return []
    if allow_changes and "power" in (before["ema"], config.ema) and differences.keys() & AVERAGES:
        raise TrainingError(
            f"{path} has other averages ({'; '.join(changed)}), which need the weights of all steps before; keep those "
            "settings, or use another --out."
        )
    if not allow_changes:
        raise TrainingError(
            f"{path} was written with other settings ({'; '.join(changed)}); use another --out, or --allow-changes."
        )
    return [f"settings change from here on: {'; '.join(changed)}"]


def _differences(before: Mapping[str, Any], config: Config, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from those `before`, by dotted name, as JSON has them: (before, now).

    A setting that is not there had its default; those that no longer exist change nothing.
    """
    differences: dict[str, tuple[Any, Any]] = {}
    settings = json.loads(config.model_dump_json())
    for key, field in type(config).model_fields.items():
        name, value, new = prefix + key, getattr(config, key), settings[key]
        default = None if field.is_required() else json.loads(json.dumps(field.default, default=str))
        old = before.get(key, default)
        if isinstance(old, dict) and isinstance(value, Config):
            differences |= _differences(old, value, f"{name}.")
        elif old != new:
            differences[name] = (old, new)
    return differences


@contextmanager
def os_errors(problem: str, fix: str) -> Iterator[None]:
    """Raise `InputError` of one line for an error of the operating system."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{problem}: {error.strerror}; {fix}.") from None


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Lock the folder for this run; if nothing is written to it, remove it again with the folders above it.

    Raises `InputError` when another process trains in it, or it is the folder of a model, whose files a run would
    replace by a `config.json` and a stage of its own.
    """
    config: Any = None
    with suppress(OSError, ValueError):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(config, dict) and config.get("format") == "unclip":
        raise InputError(f"{folder} is the folder of a model, whose files a run would replace; use another --out.")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with os_errors(f"cannot write {folder}", "choose a writable folder with room"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another run trains in {folder}; stop it first, or use another --out.") from None
        try:
            yield
        finally:
            # Refused before anything was written.
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                with suppress(OSError):
                    for path in new:
                        path.rmdir()
