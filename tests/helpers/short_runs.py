"""Some steps of a training run in this process, for looking at what a setting does to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from unclip.config import Config
from unclip.data import emoji_items, write_shards
from unclip.training import Batch, Cluster, Feed, StopFlag, Task, TaskLoss, TrainConfig, Trainer, make_task
from unclip.training.logging import RunLog, StepReport

ALONE = Cluster(0, 1, torch.device("cpu"))


class Steps(NamedTuple):
    """What some steps came to."""

    trainer: Trainer
    reports: list[StepReport]

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [report.loss for report in self.reports]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The network's parameters by name."""
        return {name: parameter.detach() for name, parameter in self.trainer.state.network.named_parameters()}


def steps(config: TrainConfig, count: int = 2) -> Steps:
    """The first `count` steps of a run, without a folder."""
    trainer = Trainer.open(config, ALONE)
    return Steps(trainer, [trainer.step() for _ in range(count)])


def loss(task: Task, network: nn.Module, batch: Batch) -> TaskLoss:
    """The loss of a batch in one pass of one process."""
    return task.loss(network, task.forward(network, batch), ALONE.gather)


def fresh(config: TrainConfig) -> dict[str, torch.Tensor]:
    """The weights before the first step."""
    return dict(make_task(config, ALONE.device).build().named_parameters())


def first_batch(config: TrainConfig, task: Task | None = None) -> Batch:
    """The samples of the first step."""
    task = task or make_task(config, ALONE.device)
    return task.samples(Feed(task.samples, config, ALONE).request(0))


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """A copy in which each setting, by its name in whichever part has it, is another one; `model` is changed too."""
    parts: dict[str, Config] = {"data": config.data, "optimizer": config.optimizer, "task": config.task}
    for key, part in parts.items():
        known = changes.keys() & type(part).model_fields.keys()
        parts[key] = part.replace(**{name: changes.pop(name) for name in known})
    own = {name: changes.pop(name) for name in changes.keys() & type(config).model_fields.keys()}
    config = config.replace(**parts, **own)
    return config.replace(task=config.task.replace(model=config.task.model.replace(**changes))) if changes else config


def of_pixels(config: TrainConfig) -> TrainConfig:
    """A decoder's run on small pictures, which reads the image embedding alone and predicts x0."""
    return changed(
        config, autoencoder=None, in_channels=3, image_size=16, attention_resolutions=(), text_dim=0,
        prediction_type="x0", noise_conditioning=False, embedding_noise=0.0, balance=(),
    )  # fmt: skip


def options(part: type[Config]) -> set[str]:
    """The settings of a part that are no parts themselves."""
    return set(part.model_fields) - {"kind", "model", "task", "data", "optimizer"}


def small_shards(folder: Path, image_size: int, count: int = 8, per_shard: int = 1000) -> Path:
    """Some drawings as shards."""
    for number, start in enumerate(range(0, count, per_shard)):
        part = folder if per_shard >= count else folder / f"part-{number}"
        write_shards(part, emoji_items("train")[start : min(start + per_shard, count)], image_size, f"shard-{number}")
        for path in part.glob("*.tar"):
            path.rename(folder / path.name)
    return folder


@contextmanager
def calls(module: nn.Module) -> Iterator[list[dict[str, Any]]]:
    """The named inputs of every call of a module inside the block; those without a name are "0", "1", ..."""
    seen: list[dict[str, Any]] = []

    def note(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append({str(place): value for place, value in enumerate(args)} | named)

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> StopFlag:
    """A flag that is set when the log gets the line of that step, as a signal would set it."""
    flag, write = StopFlag(), RunLog.write

    def write_and_stop(log: RunLog, report: StepReport) -> None:
        write(log, report)
        if report.step == step:
            flag.name = "SIGTERM"

    monkeypatch.setattr(RunLog, "write", write_and_stop)
    return flag
