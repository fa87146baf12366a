"""The training loop: one for all stages. Knows a `Task` and a folder; not what is trained."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unclip.data import batch_indices
from unclip.errors import TrainingError
from unclip.files import atomic_write
from unclip.runtime import autocast, forked_random_state, resolve_device, seeded
from unclip.training.config import TrainConfig
from unclip.training.ema import Ema
from unclip.training.log import RunLog, StepReport
from unclip.training.optimizer import learning_rate, make_optimizer
from unclip.training.progress import Reporter
from unclip.training.state import Position, TrainState
from unclip.training.stop import stop_on_signal
from unclip.training.task import Task
from unclip.training.tasks import make_task

__all__ = ["train", "train_steps"]

RANK = 0
MAX_SKIPPED = 20


def train(config: TrainConfig, out: Path, *, minutes: float | None = None, device: str = "auto") -> Position:
    """Train until `num_images` or the time budget is reached; the same call again resumes exactly.

    Writes to `out`: `config.json`, `log.jsonl`, `tensorboard/`, `samples/`, the last two checkpoints and, with each,
    the stage as the pipeline loads it (averaged weights). SIGINT and SIGTERM end the run after the current step, saved.
    Raises `TrainingError` when the folder holds a run of other settings or the loss stays non-finite.
    """
    out = Path(out)
    started = time.monotonic()
    task = make_task(config, resolve_device(device))
    state = make_state(task, config)
    position, notes = state.resume(out, config)
    atomic_write(out / "config.json", config.model_dump_json(indent=2) + "\n")
    reporter = Reporter(config, position, minutes)
    for note in notes:
        reporter.note(note)
    deadline = None if minutes is None else started + 60.0 * minutes
    return _run(task, state, position, config, out, reporter, deadline)


def make_state(task: Task, config: TrainConfig) -> TrainState:
    """A fresh state; weights are initialised from the run's seed alone."""
    return TrainState(
        task.network, Ema(task.network, config.ema_images), make_optimizer(task.network, config.optimizer)
    )


def train_steps(task: Task, state: TrainState, position: Position, config: TrainConfig) -> Iterator[StepReport]:
    """One optimiser step a time, for ever; the caller decides when to stop."""
    step, images_seen = position
    skipped = 0
    while True:
        before = time.monotonic()
        indices = batch_indices(task.num_items, config.batch_size, images_seen, config.seed)
        rate = learning_rate(config.optimizer, images_seen, config.num_images)
        loss, metrics = _step(task, state, config, indices, rate, seeded(config.seed, RANK, images_seen))
        step, images_seen = step + 1, images_seen + config.batch_size
        skipped = skipped + 1 if metrics["skipped"] else 0
        if skipped == MAX_SKIPPED:
            raise TrainingError(
                f"the loss was not finite for {skipped} steps in a row (step {step}); lower optimizer.learning_rate "
                f"(now {config.optimizer.learning_rate}) and resume from the last checkpoint in another --out."
            )
        if not skipped:
            state.ema.update(state.network, config.batch_size, images_seen)
        yield StepReport(step, images_seen, loss, metrics, time.monotonic() - before)


def _step(
    task: Task,
    state: TrainState,
    config: TrainConfig,
    indices: np.ndarray,
    rate: float,
    generator: torch.Generator,
) -> tuple[float, dict[str, float]]:
    """Forward, backward, clip, update. A step whose gradient is not finite leaves the weights alone."""
    network, optimizer = state.network, state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = rate
    device = next(network.parameters()).device
    # Dropout draws from torch's own state, so that is tied to the step as well.
    with forked_random_state(generator.initial_seed()), autocast(device, getattr(torch, config.precision)):
        loss, metrics = task.loss(indices, generator)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.max_grad_norm)
    finite = bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), {**metrics, "grad_norm": norm.item(), "learning_rate": rate, "skipped": float(not finite)}


def _run(
    task: Task,
    state: TrainState,
    position: Position,
    config: TrainConfig,
    out: Path,
    reporter: Reporter,
    deadline: float | None,
) -> Position:
    log = RunLog(out, position.step)
    steps = train_steps(task, state, position, config)
    try:
        with stop_on_signal() as stopped:
            while position.images_seen < config.num_images and not (stopped or _late(deadline)):
                report = next(steps)
                log.write(report)
                reporter.step(report)
                before, position = position, Position(report.step, report.images_seen)
                if _crossed(before, position, config.checkpoint_images):
                    save(task, state, position, config, out)
                if _crossed(before, position, config.preview_images):
                    _preview(task, state, position, log)
            save(task, state, position, config, out)
        if stopped:
            reporter.note(f"{stopped.name}: saved at {position.images_seen:,} images; the same command resumes.")
        else:
            _preview(task, state, position, log)
    finally:
        log.close()
        reporter.close()
    return position


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def save(task: Task, state: TrainState, position: Position, config: TrainConfig, out: Path) -> None:
    """A checkpoint to go on from, and the averaged stage to draw with."""
    state.save(out, position, config)
    task.export(state.ema.network, out, "float32")


def _crossed(before: Position, now: Position, every: int) -> bool:
    return before.images_seen // every != now.images_seen // every


def _preview(task: Task, state: TrainState, position: Position, log: RunLog) -> None:
    image = task.preview(state.ema.network)
    if image is not None:
        log.picture(image, position.images_seen)
