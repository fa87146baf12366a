"""One optimiser step: gradients of a batch, their norm, the update. Knows a task; no files and no order of samples."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from unclip.errors import TrainingError
from unclip.runtime import autocast, forked_random_state, seeded
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.feed import Feed
from unclip.training.logging import StepReport
from unclip.training.optimizer import is_sharded, learning_rate, whole
from unclip.training.state import Position, TrainState
from unclip.training.task import Batch, Passes, Stream, Task


class NotFiniteError(TrainingError):
    """The gradient was infinite for too many steps in a row; `position` is where the first of them began."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(message)
        self.position = position


class _Update(NamedTuple):
    loss: float
    metrics: dict[str, float]
    is_finite: bool


def train_steps(
    task: Task, state: TrainState, position: Position, config: TrainConfig, feed: Feed, cluster: Cluster
) -> Iterator[StepReport]:
    """One optimiser step a time, for ever; the caller decides when to stop.

    A step whose gradient is not finite leaves the weights alone. Raises `NotFiniteError` after `max_skipped` in a row.
    """
    step, images_seen = position
    skipped, good = 0, position
    batches = feed.batches(images_seen)
    while True:
        before = time.monotonic()
        batch = next(batches)
        rate = learning_rate(config.optimizer, images_seen, config.num_images)
        update = _update(task, state, config, batch, rate, images_seen, feed.num_rows, cluster)
        step, images_seen = step + 1, images_seen + config.batch_size
        if update.is_finite:
            skipped, good = 0, Position(step, images_seen)
            state.averages.update(state.network, config.batch_size, images_seen)
        else:
            skipped += 1
        if skipped == config.max_skipped:
            raise NotFiniteError(
                f"the loss was not finite for {skipped} steps in a row (step {step}); {_remedy(good, config)}", good
            )
        seconds = time.monotonic() - before
        yield StepReport(step, images_seen, update.loss, update.metrics, seconds, batch.skipped)


def nothing_learned(start: Position, end: Position, config: TrainConfig) -> NotFiniteError:
    """What to raise where all steps from `start` to `end` were skipped."""
    return NotFiniteError(
        f"none of the {end.step - start.step} steps had a finite gradient; {_remedy(start, config)}", start
    )


def _remedy(good: Position, config: TrainConfig) -> str:
    rate = f"lower optimizer.learning_rate (now {config.optimizer.learning_rate})"
    if good.step:
        return f"{rate} and resume with --allow-changes from step {good.step}, saved."
    return f"{rate}, or look for data that are no numbers; nothing was saved, and the next call begins anew."


def _update(
    task: Task,
    state: TrainState,
    config: TrainConfig,
    batch: Batch,
    rate: float,
    images_seen: int,
    num_rows: int,
    cluster: Cluster,
) -> _Update:
    """Forward, backward, clip, update."""
    network = state.wrapped
    passes = Passes(
        num_rows,
        state.loss_scale.value,
        lambda is_last: cluster.exchange(network, is_last),
        cluster.gather,
        cluster.rank,
        cluster.size,
    )
    # Dropout draws from torch's own state, so that is tied to the step and the process.
    seed = seeded(config.seed, Stream.DROPOUT, cluster.rank, images_seen).initial_seed()
    with forked_random_state(seed), autocast(cluster.device, getattr(torch, config.precision)):
        loss, metrics = task.backward(network, batch.to(cluster.device), passes)
    cluster.finish_gradients(network)
    norm = clip_gradients(state.network, config.optimizer.max_grad_norm, state.loss_scale.value)
    is_finite = bool(torch.isfinite(norm))
    if is_finite:
        state.optimizer.set_learning_rate(rate)
        state.optimizer.step()
    state.optimizer.zero_grad()
    if config.precision == "float16":
        state.loss_scale = state.loss_scale.after(is_finite)
    names = sorted(metrics)
    count = torch.tensor(float(len(batch.skipped)), device=loss.device)
    numbers = torch.stack([loss, count, *(torch.tensor(metrics[name], device=loss.device) for name in names)])
    mean, skipped, *means = cluster.mean(numbers).tolist()
    shown = dict(zip(names, means, strict=True)) | {"skipped_samples": skipped * cluster.size}
    shown |= {"grad_norm": norm.item(), "learning_rate": rate, "skipped": float(not is_finite)}
    return _Update(mean, shown, is_finite)


def clip_gradients(network: nn.Module, max_norm: float, scale: float) -> torch.Tensor:
    """Undo the loss scale, then shorten the gradient to `max_norm`; returns its length before, over all processes."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if scale != 1.0:
        torch._foreach_mul_(gradients, 1.0 / scale)
    # Sharded and whole ones cannot share a call.
    groups = [group for kind in (True, False) if (group := [g for g in gradients if is_sharded(g) == kind])]
    norm = torch.stack([whole(nn.utils.get_total_norm(group)) for group in groups]).norm()
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for group in groups:
        torch._foreach_mul_(group, factor)
    return norm
