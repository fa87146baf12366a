"""Everything a run needs to go on exactly, as one safetensors file. Knows no task and no loop."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint import load_tensors, load_weights, save_tensors
from unclip.errors import CheckpointError, TrainingError
from unclip.training.config import TrainConfig
from unclip.training.ema import Ema

__all__ = ["Position", "TrainState"]

KEPT = 2


class Position(NamedTuple):
    """Where a run is."""

    step: int = 0
    images_seen: int = 0


class TrainState(NamedTuple):
    """The network, its average and its optimiser."""

    network: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer

    def save(self, folder: Path, position: Position, config: TrainConfig) -> Path:
        """Write `folder/checkpoint-<step>.safetensors` atomically and keep the last two."""
        path = folder / f"checkpoint-{position.step:08d}.safetensors"
        metadata = {"position": json.dumps(position), "config": config.model_dump_json()}
        save_tensors(path, self._tensors(), metadata)
        for old in checkpoints(folder)[:-KEPT]:
            old.unlink()
        return path

    def resume(self, folder: Path, config: TrainConfig) -> tuple[Position, list[str]]:
        """Restore the newest whole checkpoint of `folder`: where it was, and a note for each one that was not whole.

        Raises `TrainingError` when the checkpoint was written by another configuration.
        """
        notes = []
        for path in reversed(checkpoints(folder)):
            try:
                tensors, metadata = load_tensors(path)
            except CheckpointError as error:
                notes.append(f"skipped a damaged checkpoint: {error}")
                continue
            _check_config(path, metadata["config"], config)
            self._restore(tensors, path)
            return Position(*json.loads(metadata["position"])), notes
        return Position(), notes

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.network.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        return tensors

    def _restore(self, tensors: dict[str, Tensor], path: Path) -> None:
        load_weights(self.network, _part(tensors, "network."), path)
        load_weights(self.ema.network, _part(tensors, "ema."), path)
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, field = name.split(".")
            state.setdefault(int(index), {})[field] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# What may change between two parts of one run: how long it is and how often it reports.
FREE = {"num_images", "checkpoint_images", "preview_images"}


def _check_config(path: Path, stored: str, config: TrainConfig) -> None:
    before, now = json.loads(stored), json.loads(config.model_dump_json())
    changed = [
        f"{name}: {old!r} there, {new!r} asked"
        for name, (old, new) in _differences(before, now).items()
        if name.split(".")[0] not in FREE
    ]
    if changed:
        raise TrainingError(f"{path} was written with other settings ({'; '.join(changed)}); use another --out.")


def _differences(before: object, now: object, name: str = "") -> dict[str, tuple[object, object]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[object, object]] = {}
        for key in sorted(before.keys() | now.keys()):
            found |= _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        return found
    return {} if before == now else {name: (before, now)}
