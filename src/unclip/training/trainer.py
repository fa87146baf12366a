"""Train a stage, from a recipe's settings to averaged weights in a folder: one `Trainer` for all tasks."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from unclip.errors import TrainingError
from unclip.files import atomic_write
from unclip.runtime import autocast, forked_random_state, seeded
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster, init_cluster
from unclip.training.feed import PLACE, Feed
from unclip.training.fit import check_options
from unclip.training.logging import Reporter, RunLog, StepReport
from unclip.training.optimizer import clip_gradients, learning_rate
from unclip.training.state import BEST, Position, TrainState, sole_run
from unclip.training.stop import StopFlag, stop_on_signal
from unclip.training.task import Batch, Stream, Task, TaskLoss
from unclip.training.tasks import make_task


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
    catches them passes the flag `stopped`, which is read in their place, and set when another process was stopped.
    `advice` is the last line of a run that came to its end: what to do next. Raises `TrainingError` when the folder
    holds a run of other settings (unless `allow_changes`), when the loss stays non-finite or no step was finite, and
    `InputError` when another run trains in the folder. A run that is refused leaves nothing behind.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    folder = Path(out)

    # A function of its own, so that DDP and FSDP modules are freed before the process group is destroyed.
    def train_in(cluster: Cluster) -> Position:
        with ExitStack() as stack:
            cluster.on_rank_zero(lambda: stack.enter_context(sole_run(folder)))
            check_options(config, cluster)
            trainer = Trainer.open(config, cluster)
            notes = [*trainer.task.notes, *trainer.feed.notes, *trainer.state.resume(folder, allow_changes)]
            start = trainer.state.position
            reporter = Reporter(config, start, minutes, quiet=not cluster.is_rank_zero)
            stack.callback(reporter.close)
            if start.images_seen >= config.num_images:
                notes.append(f"is finished with {start.images_seen:,} images; a larger num_images goes on.")
            reporter.note(*notes)
            settings = config.model_dump(mode="json")
            trainer.log = cluster.on_rank_zero(lambda: RunLog(folder, start.step, config.trackers, settings))
            if trainer.log is not None:
                stack.callback(trainer.log.close)
                reporter.note(*trainer.log.notes)
            cluster.on_rank_zero(lambda: atomic_write(folder / "config.json", config.model_dump_json(indent=2) + "\n"))
            if trainer.run(folder, reporter, deadline, stopped) and advice:
                reporter.note(advice)
            return trainer.state.position

    with init_cluster(device) as cluster:
        return train_in(cluster)


class NotFiniteError(TrainingError):
    """The gradient was infinite for too many steps in a row, or in all of them."""


@dataclass(eq=False)
class Trainer:
    """One process's part of a run: its steps, held-out figures, checkpoints and previews."""

    config: TrainConfig
    cluster: Cluster
    task: Task
    feed: Feed
    state: TrainState
    log: RunLog | None = None
    """In rank 0 of a run with a folder."""

    @classmethod
    def open(cls, config: TrainConfig, cluster: Cluster, task: Task | None = None) -> "Trainer":
        """Open the task of `config`, unless one is passed, and build its state before the first step.

        Rank 0 opens it first, which writes files and embeds pictures; the others receive both.
        """
        if task is None:
            task = cluster.on_rank_zero(lambda: make_task(config, cluster.device))
            embedded = cluster.broadcast(None if task is None else task.embedded)
            task = task or make_task(config, cluster.device, embedded)
        return cls(config, cluster, task, Feed(task.samples, config, cluster), TrainState.build(task, config, cluster))

    def run(self, out: Path, reporter: Reporter, deadline: float, stopped: StopFlag | None = None) -> bool:
        """Train until the end, the deadline or a signal, and save; returns whether no signal stopped it."""
        state, start = self.state, self.state.position
        with stop_on_signal() if stopped is None else nullcontext(stopped) as flag:
            try:
                while state.position.images_seen < self.config.num_images:
                    if self.cluster.any(bool(flag) or time.monotonic() >= deadline):
                        break
                    self._advance(out, reporter)
                if state.position != start and not (state.has_learned or self.cluster.any(bool(flag))):
                    steps = state.position.step - start.step
                    raise NotFiniteError(f"none of the {steps} steps had a finite gradient; {self._remedy()}")
            except NotFiniteError:
                # The steps since then were skipped and changed no weight.
                state.position = state.last_finite
                reporter.note(*state.set_aside_later(out))
                # A run that never had a finite step has nothing to keep.
                if state.position != start:
                    self.save(out)
                raise
            self.save(out)
        if self.cluster.any(bool(flag)):
            flag.name = flag.name or "stopped"
            reporter.note(f"{flag.name}: saved at {state.position.images_seen:,} images; the same command resumes.")
            return False
        self.preview()
        reporter.end(state.position, out, self.feed)
        return True

    def _advance(self, out: Path, reporter: Reporter) -> None:
        """Make one step, log it, and do what is due after it."""
        config, state, before = self.config, self.state, self.state.position.images_seen
        report = self.step()

        def is_due(every: int) -> bool:
            return before // every != state.position.images_seen // every

        # Held-out figures stand in the log line of their step.
        if is_due(config.validation_images):
            figures = self.validate()
            if figures.get("held_out_loss", math.inf) < state.best_loss:
                state.best_loss = figures["held_out_loss"]
                state.save(out / BEST)
            report = report._replace(metrics={**report.metrics, **figures})
        if self.log is not None:
            self.log.write(report)
        reporter.step(report)
        reporter.damaged(report.skipped)
        # The last step is saved and drawn by `run`.
        if state.position.images_seen < config.num_images:
            if is_due(config.checkpoint_images) and state.has_learned:
                self.save(out)
            if is_due(config.preview_images):
                self.preview()

    def step(self) -> StepReport:
        """Make one optimiser step: gradients of a batch, their norm, the update, the averages.

        A step whose gradient is not finite leaves the weights alone. Raises `NotFiniteError` after `max_skipped` in a
        row.
        """
        started = time.monotonic()
        config, cluster, state = self.config, self.cluster, self.state
        step, images_seen = state.position
        batch = next(self._batches)
        # Dropout draws from torch's own state, so that is tied to the step and the process.
        seed = seeded(config.seed, Stream.DROPOUT, cluster.rank, images_seen).initial_seed()
        with forked_random_state(seed), self._autocast():
            loss, metrics = self.backward(batch.to(cluster.device))
        cluster.average_whole_gradients(state.wrapped)
        norm = clip_gradients(state.network, config.optimizer.max_grad_norm, state.loss_scale.value)
        rate = learning_rate(config.optimizer, images_seen, config.num_images)
        is_finite = bool(torch.isfinite(norm))
        state.position = Position(step + 1, images_seen + config.batch_size)
        if is_finite:
            state.optimizer.step(rate)
            state.averages.update(state.network, config.batch_size, state.position.images_seen)
            state.last_finite, state.has_learned = state.position, True
        state.optimizer.zero_grad()
        if config.precision == "float16":
            state.loss_scale = state.loss_scale.after(is_finite)
        num_skipped = state.position.step - state.last_finite.step
        if num_skipped == config.max_skipped:
            raise NotFiniteError(
                f"the loss was not finite for {num_skipped} steps in a row (step {step + 1}); {self._remedy()}"
            )
        # Numbers of all processes, in one exchange.
        names, count = sorted(metrics), float(len(batch.skipped))
        numbers = torch.tensor([count, *(metrics[name] for name in names)], device=loss.device)
        mean, skipped, *means = cluster.mean(torch.cat([loss[None], numbers])).tolist()
        metrics = dict(zip(names, means, strict=True)) | {"skipped_samples": skipped * cluster.size}
        metrics |= {"grad_norm": norm.item(), "learning_rate": rate, "skipped": float(not is_finite)}
        return StepReport(*state.position, mean, metrics, time.monotonic() - started, batch.skipped)

    def backward(self, batch: Batch) -> TaskLoss:
        """Add the gradient of the mean loss to the parameters, in passes of at most `feed.num_rows` samples."""
        task, network, cluster = self.task, self.state.wrapped, self.cluster
        parts = task.prepare(network, task.split(batch, self.feed.num_rows), cluster.gather)
        total, metrics = torch.zeros((), device=cluster.device), dict[str, float]()
        for number, part in enumerate(parts, start=1):
            cluster.set_gradient_sync(network, number == len(parts))
            share = len(part) / len(batch)
            part_loss = task.loss(network, task.forward(network, part), cluster.gather)
            (part_loss.loss * (share * self.state.loss_scale.value)).backward()
            total += share * part_loss.loss.detach()
            metrics = {name: metrics.get(name, 0.0) + share * value for name, value in part_loss.metrics.items()}
        return TaskLoss(total, metrics)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Measure `held_out_loss` of the average, `held_out_loss_online` of the network, and the task's figures.

        Always with the same samples and draws, so that two moments of a run differ by their weights alone, and on the
        rows of all processes together, so that their number changes nothing. Empty without held-out samples.
        """
        task, average = self.task, self.state.averages.networks[0]
        figures: dict[str, float] = {}
        with forked_random_state(self.config.seed), self._autocast():
            for name, network in (("held_out_loss", average), ("held_out_loss_online", self.state.network)):
                total, count, was_training = 0.0, 0, network.training
                network.eval()
                for rows in self._held_out_rows(task.forward, network):
                    size = len(next(iter(rows.values())))
                    total += size * task.loss(network, rows, lambda rows: rows).loss.item()
                    count += size
                network.train(was_training)
                if count:
                    figures[name] = total / count
            batches = list(self._held_out_rows(task.draw, average, task.num_compared))
        if batches:
            # In float64, which not every device has.
            figures |= task.figures({name: torch.cat([rows[name].cpu() for rows in batches]) for name in batches[0]})
        # Equal to the bit in all processes, which save the best loss together.
        return dict(self.cluster.broadcast_object(figures))

    def _held_out_rows(
        self,
        measure: Callable[[nn.Module, Batch], dict[str, Tensor]],
        network: nn.Module,
        count: int | None = None,
    ) -> Iterator[dict[str, Tensor]]:
        """Measure each batch of held-out samples; yields the rows of all processes, in the samples' order."""
        for batch in self.feed.validation(count):
            parts = [
                {**measure(network, part), PLACE: part[PLACE]}
                for part in self.task.split(batch.to(self.cluster.device), self.feed.num_rows)
            ]
            rows = {name: self.cluster.gather(torch.cat([part[name] for part in parts])) for name in parts[0]}
            places = rows.pop(PLACE)
            order = places.argsort()[(places < 0).sum() :]
            yield {name: tensor[order] for name, tensor in rows.items()}

    def save(self, out: Path) -> None:
        """Write a checkpoint to resume from, and the averaged stage for pipelines."""
        self.state.save_newest(out)
        self.state.save_averages(out)
        average = self.state.averages.networks[0].state_dict()
        self.cluster.gather_state(average, lambda tensors: self.task.export(tensors, out))

    def preview(self) -> Image.Image | None:
        """Draw a grid of samples with the averaged weights and log it; None for a stage without pictures."""
        with forked_random_state(self.config.seed):
            image = self.task.preview(self.state.averages.networks[0])
        if image is not None and self.log is not None:
            self.log.picture(image, self.state.position.images_seen)
        return image

    @cached_property
    def _batches(self) -> Iterator[Batch]:
        return self.feed.batches(self.state.position.images_seen)

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.cluster.device, getattr(torch, self.config.precision))

    def _remedy(self) -> str:
        rate, step = self.config.optimizer.learning_rate, self.state.last_finite.step
        rest = ", or look for data that are no numbers; nothing was saved, and the next call begins anew."
        if step:
            rest = f" and resume with --allow-changes from step {step}, saved."
        return f"lower optimizer.learning_rate (now {rate}){rest}"
