"""What a run needs to go on exactly, as one safetensors file that fits any number of processes. Knows no task."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, load_tensors, load_weights, write_tensors
from unclip.errors import CheckpointError
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.ema import Averages
from unclip.training.loss_scale import LossScale
from unclip.training.optimizer import Optimizers
from unclip.training.post_hoc import Snapshot, save_snapshot
from unclip.training.resuming import check_config

__all__ = ["BEST", "Position", "Resumed", "TrainState"]

BEST = "best.safetensors"


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
        """Write a checkpoint atomically; every process takes part, the first one writes."""
        metadata = {
            "position": json.dumps(position),
            "config": config.model_dump_json(),
            "loss_scale": json.dumps(self.loss_scale),
            "best_loss": json.dumps(self.best_loss),
            "storage": "float32",
        }
        self.cluster.write(self.tensors(), lambda tensors: write_tensors(path, tensors, metadata))

    def save_newest(self, folder: Path, position: Position, config: TrainConfig) -> None:
        """Write `folder/checkpoint-<step>.safetensors` and keep the last `config.keep_checkpoints`."""
        self.save(folder / f"checkpoint-{position.step:08d}.safetensors", position, config)
        if self.cluster.is_first:
            for old in checkpoints(folder)[: -config.keep_checkpoints]:
                old.unlink()

    def drop_after(self, folder: Path, position: Position) -> None:
        """Remove checkpoints of later steps: those of a run that is taken back to `position`."""
        if self.cluster.is_first:
            for path in checkpoints(folder):
                if int(path.stem.removeprefix("checkpoint-")) > position.step:
                    path.unlink()

    def save_averages(self, folder: Path, position: Position) -> None:
        """Keep the power-function averages as they are now, so that any other width can be made of them."""
        if self.averages.rule.kind == "classic":
            return
        for sigma_rel, average in zip(self.averages.rule.sigma_rel, self.averages.networks, strict=True):
            self.cluster.write(average.state_dict(), partial(_keep, folder, position.images_seen, sigma_rel))

    def resume(self, folder: Path, config: TrainConfig, allow_changes: bool = False) -> Resumed:
        """Restore the newest whole checkpoint of `folder`, and tell what was found on the way there.

        Raises `TrainingError` with the differences when other settings wrote it, unless `allow_changes`.
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
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def _newest_whole(folder: Path, config: TrainConfig, allow_changes: bool) -> _Found:
    """The newest checkpoint that can be read; a note for each that cannot, for the one taken instead, and of changes.

    Raises `TrainingError` as `check_config` does.
    """
    notes: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            tensors, metadata = load_tensors(path)
        except CheckpointError as error:
            notes.append(f"skipped a damaged checkpoint: {error}")
            continue
        if notes:
            notes.append(f"going on from {path.name}")
        return _Found(tensors, metadata, notes + check_config(path, metadata["config"], config, allow_changes))
    return _Found({}, None, notes)


def _keep(folder: Path, images_seen: int, sigma_rel: float, tensors: dict[str, LazyTensor]) -> None:
    save_snapshot(folder, Snapshot(images_seen, sigma_rel, tensors))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
