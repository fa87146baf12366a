"""The training loop: one for all stages. Knows a `Task` and a folder; not what is trained."""

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from unclip.files import atomic_write
from unclip.runtime import forked_random_state
from unclip.training.averages import AverageRule, Averages
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster, join
from unclip.training.feed import Feed
from unclip.training.fit import check_options
from unclip.training.logging import Reporter, RunLog
from unclip.training.memory import checkpoint_activations
from unclip.training.optimizer import LossScale, make_optimizers
from unclip.training.state import BEST, Position, TrainState, sole_run
from unclip.training.step import NotFiniteError, nothing_learned, train_steps
from unclip.training.stop import StopFlag, stop_on_signal
from unclip.training.task import Task
from unclip.training.tasks import make_task
from unclip.training.validation import validate


def train(
    config: TrainConfig,
    out: Path | str,
    *,
    minutes: float | None = None,
    device: str = "auto",
    allow_changes: bool = False,
    stopped: StopFlag | None = None,
    advice: str = "",
) -> Position:
    """Train until `num_images` or the time budget is reached; the same call again resumes exactly.

    Under `torchrun` or `accelerate launch` all processes train together. Writes to `out`: `config.json`, `log.jsonl`,
    `tensorboard/`, `samples/`, the last checkpoints and that of the best held-out loss, and with each the stage as the
    pipeline loads it (averaged weights). SIGINT and SIGTERM end the run after the current step, saved. A caller who
    catches them gives the flag `stopped`, which is looked at in their place, and set when another process was stopped.
    `advice` is the last line of a run that came to its end: what to do next. Raises `TrainingError` when the folder
    holds a run of other settings (unless `allow_changes`), when the loss stays non-finite or no step was finite, and
    `InputError` when another run trains in the folder. A run that is refused leaves nothing behind.
    """
    started = time.monotonic()
    deadline = None if minutes is None else started + 60.0 * minutes
    with join(device) as cluster:
        # What holds connections is gone before they are closed.
        return _train(config, Path(out), cluster, minutes, deadline, allow_changes, stopped, advice)


def _train(
    config: TrainConfig,
    out: Path,
    cluster: Cluster,
    minutes: float | None,
    deadline: float | None,
    allow_changes: bool,
    stopped: StopFlag | None,
    advice: str,
) -> Position:
    with ExitStack() as stack:
        cluster.by_first(lambda: stack.enter_context(sole_run(out)))
        check_options(config, cluster)
        task = open_task(config, cluster)
        feed = Feed(task.samples, config, cluster)
        state = make_state(task, config, cluster)
        resumed = state.resume(out, config, allow_changes)
        reporter = Reporter(config, resumed.position, minutes, quiet=not cluster.is_first)
        stack.callback(reporter.close)
        for note in (*task.notes, *resumed.notes):
            reporter.note(note)
        if resumed.position.images_seen >= config.num_images:
            reporter.note(f"is finished with {resumed.position.images_seen:,} images; a larger num_images goes on.")
        log = _open_log(config, out, resumed.position, reporter, cluster)
        if log is not None:
            stack.callback(log.close)
        cluster.by_first(lambda: atomic_write(out / "config.json", config.model_dump_json(indent=2) + "\n"))
        run = _Run(config, out, cluster, task, state, feed, log, reporter, stopped, advice)
        return run.go_on(resumed.position, deadline)


def make_state(task: Task, config: TrainConfig, cluster: Cluster) -> TrainState:
    """A fresh state; weights depend on the run's seed alone."""
    rule = AverageRule.of(config)
    network = cluster.build(task.build, config.strategy)
    copies = [cluster.copy(network, task.build, config.strategy) for _ in range(len(rule))]
    if config.activation_checkpointing:
        checkpoint_activations(network)
    if config.compile:
        network.compile()
    wrapped = cluster.wrap(network, config.strategy)
    optimizer = make_optimizers(network, config.optimizer)
    scale = LossScale() if config.precision == "float16" else LossScale(1.0)
    return TrainState(network, wrapped, Averages(copies, rule), optimizer, scale, cluster)


def open_task(config: TrainConfig, cluster: Cluster) -> Task:
    """The first process writes files and embeds pictures; the others read the files and are sent the embeddings."""
    task = cluster.by_first(lambda: make_task(config, cluster.device))
    embedded = cluster.broadcast(None if task is None else task.embedded)
    return task or make_task(config, cluster.device, embedded)


def _open_log(
    config: TrainConfig, out: Path, position: Position, reporter: Reporter, cluster: Cluster
) -> RunLog | None:
    """The first process writes the log; trackers that are missing are told before anything is trained."""
    log = cluster.by_first(lambda: RunLog(out, position.step, config.trackers, config.model_dump(mode="json")))
    for note in log.notes if log else ():
        reporter.note(note)
    return log


@dataclass(eq=False)
class _Run:
    """One process's part of a run."""

    config: TrainConfig
    out: Path
    cluster: Cluster
    task: Task
    state: TrainState
    feed: Feed
    log: RunLog | None
    reporter: Reporter
    stopped: StopFlag | None
    advice: str
    has_learned: bool = False
    """Whether a step of this call had a finite gradient."""

    def go_on(self, position: Position, deadline: float | None) -> Position:
        """Train from `position` until the end, the deadline or a signal, and save."""
        start = position
        with stop_on_signal() if self.stopped is None else nullcontext(self.stopped) as stopped:
            try:
                position = self._steps(position, deadline, stopped)
                if position != start and not (self.has_learned or self.cluster.any(bool(stopped))):
                    raise nothing_learned(start, position, self.config)
            except NotFiniteError as error:
                for note in self.state.set_aside_after(self.out, error.position):
                    self.reporter.note(note)
                # Of a run that never had a finite step there is nothing to keep.
                if error.position != start:
                    self._save(error.position)
                raise
            self._save(position)
        if self.cluster.any(bool(stopped)):
            stopped.name = stopped.name or "stopped"
            self.reporter.note(f"{stopped.name}: saved at {position.images_seen:,} images; the same command resumes.")
        else:
            self._preview(position)
            self.reporter.end(position, self.out, self.feed)
            if self.advice:
                self.reporter.note(self.advice)
        return position

    def _steps(self, position: Position, deadline: float | None, stopped: StopFlag) -> Position:
        steps = train_steps(self.task, self.state, position, self.config, self.feed, self.cluster)
        while position.images_seen < self.config.num_images and not self._must_stop(deadline, stopped):
            report = next(steps)
            self.has_learned = self.has_learned or not report.metrics["skipped"]
            before, position = position, Position(report.step, report.images_seen)
            # Held-out figures stand in the line of the step that they belong to.
            if _crossed(before, position, self.config.validation_images):
                report = report.with_metrics(self._validate(position))
            if self.log is not None:
                self.log.write(report)
            self.reporter.step(report)
            self.reporter.damaged(report.skipped)
            # At the end both are done anyway.
            is_last = position.images_seen >= self.config.num_images
            if not is_last and self.has_learned and _crossed(before, position, self.config.checkpoint_images):
                self._save(position)
            if not is_last and _crossed(before, position, self.config.preview_images):
                self._preview(position)
        return position

    def _must_stop(self, deadline: float | None, stopped: StopFlag) -> bool:
        late = deadline is not None and time.monotonic() >= deadline
        return self.cluster.any(bool(stopped) or late)

    def _save(self, position: Position) -> None:
        """A checkpoint to go on from, and the averaged stage to draw with."""
        self.state.save_newest(self.out, position, self.config)
        self.state.save_averages(self.out, position)
        self._export(self.out)

    def _export(self, folder: Path) -> None:
        average = self.state.averages.networks[0].state_dict()
        self.cluster.write(average, lambda tensors: self.task.export(tensors, folder))

    def _validate(self, position: Position) -> dict[str, float]:
        """Held-out figures; the checkpoint of the best loss is kept."""
        figures = validate(self.task, self.state, self.config, self.feed, self.cluster)
        loss = figures.get("held_out_loss", math.inf)
        if loss < self.state.best_loss:
            self.state.best_loss = loss
            self.state.save(self.out / BEST, position, self.config)
        return figures

    def _preview(self, position: Position) -> None:
        with forked_random_state(self.config.seed):
            image = self.task.preview(self.state.averages.networks[0])
        if image is not None and self.log is not None:
            self.log.picture(image, position.images_seen)


def _crossed(before: Position, now: Position, every: int) -> bool:
    return before.images_seen // every != now.images_seen // every
