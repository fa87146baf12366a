"""The contract between the loop and what is trained. Knows no stage, no process and no file."""

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.runtime import seeded


class Stream(enum.IntEnum):
    """What random numbers are for: no two uses of a run share theirs."""

    SAMPLES = 0
    """Drawn for one sample of training."""
    HELD_OUT = 1
    """Drawn for one sample of the held-out figures."""
    SHARED = 2
    """Drawn for a whole batch of training, the same in every process."""
    HELD_OUT_SHARED = 3
    DROPOUT = 4
    """Drawn by the network itself, in one process."""
    SELF_CONDITIONING = 5
    """Drawn once for a batch of training: whether the network is shown its own estimate."""
    HELD_OUT_SELF_CONDITIONING = 6


_HELD_OUT = {
    Stream.SAMPLES: Stream.HELD_OUT,
    Stream.SHARED: Stream.HELD_OUT_SHARED,
    Stream.SELF_CONDITIONING: Stream.HELD_OUT_SELF_CONDITIONING,
}


@dataclass(frozen=True, eq=False)
class Request:
    """What one process is to compute of one step: these samples, in these places of the whole batch.

    The held-out samples are one batch, however many of them a process reads at a time. All that a step draws comes from
    here, so it depends on the seed and a sample's place in the run alone, and not on how many processes, workers or
    passes share the batch.
    """

    indices: np.ndarray
    """Numbers of the samples."""
    slots: np.ndarray
    """Places of those samples in the whole batch."""
    batch_size: int
    """Samples of the whole batch."""
    images_seen: int
    """Samples before this batch."""
    seed: int
    is_held_out: bool = False
    """Whether this is for the held-out figures."""

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """A generator for each sample."""
        stream = self._stream(Stream.SAMPLES)
        return [seeded(self.seed, stream, self.images_seen + int(slot)) for slot in self.slots]

    def shared(self, use: Literal[Stream.SHARED, Stream.SELF_CONDITIONING] = Stream.SHARED) -> torch.Generator:
        """A generator for what is drawn for the whole batch at once, the same in every process."""
        return seeded(self.seed, self._stream(use), self.images_seen)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (samples, *shape) float32."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), (samples, *shape) float32."""
        return torch.stack([torch.rand(shape, generator=generator) for generator in self.generators])

    def _stream(self, use: Stream) -> Stream:
        return _HELD_OUT[use] if self.is_held_out else use


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors with the samples first, and what could not be read."""

    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...] = ()
    """Samples that were damaged, with the reason; their neighbours took their places."""

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(moved, self.skipped)

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU can read by itself; torch's loaders call this."""
        return Batch({name: tensor.pin_memory() for name, tensor in self.tensors.items()}, self.skipped)

    def rows(self, rows: Tensor | slice) -> "Batch":
        """Some of the samples."""
        return Batch({name: tensor[rows] for name, tensor in self.tensors.items()})

    def split(self, num_rows: int) -> list["Batch"]:
        """Parts of `num_rows` samples; the last may be smaller."""
        return [self.rows(slice(start, start + num_rows)) for start in range(0, len(self), num_rows)]


@runtime_checkable
class SampleSet(Protocol):
    """Which samples there are; pictures and stored features alike."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the samples."""
        ...

    @property
    def shard_sizes(self) -> Sequence[int]:
        """Samples of each shard, in the order of `keys`."""
        ...


@runtime_checkable
class Samples(Protocol):
    """A data set that answers requests; picklable, and without a device, so that loader processes can hold it."""

    @property
    def source(self) -> SampleSet:
        """What is read."""
        ...

    def __call__(self, request: Request) -> Batch:
        """Read, draw and prepare all that a loss needs but the networks' work."""
        ...


class TaskLoss(NamedTuple):
    """A differentiable scalar, and numbers worth a line in the log."""

    loss: Tensor
    metrics: dict[str, float]


class Passes(NamedTuple):
    """How the gradient of a process's share of a batch is to be computed."""

    num_rows: int
    """Samples of one forward pass, at most."""
    scale: float
    """Factor on the loss (float16)."""
    is_last: Callable[[bool], object]
    """Told before each backward pass whether it is the last, when the processes exchange their gradients."""
    gather: Callable[[Tensor], Tensor]
    """The rows of all processes, without gradients."""
    rank: int
    num_processes: int


class Task(abc.ABC):
    """A stage under training: its network, its samples and its loss."""

    samples: Samples
    notes: tuple[str, ...] = ()
    """What there is to say of the data when the run starts, a line each."""
    embedded: Tensor | None = None
    """Embeddings of pictures that were computed for this task, for other processes to take over."""

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """A new network, on the CPU; the same weights every time."""

    @abc.abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> TaskLoss:
        """The mean loss over the samples of a batch."""

    def split(self, batch: Batch, num_rows: int) -> list[Batch]:
        """The parts of at most `num_rows` samples that go through the network one after the other."""
        return batch.split(num_rows)

    def backward(self, network: nn.Module, batch: Batch, passes: Passes) -> TaskLoss:
        """Add the gradient of the mean loss to the network's parameters; returns the loss, detached."""
        parts = self.split(batch, passes.num_rows)
        total, sums = torch.zeros((), device=batch_device(batch)), dict[str, float]()
        for number, part in enumerate(parts, start=1):
            passes.is_last(number == len(parts))
            share = len(part) / len(batch)
            loss, metrics = self.loss(network, part)
            (loss * (share * passes.scale)).backward()
            total += share * loss.detach()
            sums = {name: sums.get(name, 0.0) + share * value for name, value in metrics.items()}
        return TaskLoss(total, sums)

    @abc.abstractmethod
    def held_out(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What the held-out loss is computed from, a row for each sample."""

    def held_out_loss(self, network: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch, from the rows of all its samples in their order, whichever process computed them."""
        return rows["loss"].mean()

    @property
    def num_compared(self) -> int | None:
        """Held-out samples that `figures` compares: None for all, 0 where a stage has no figures."""
        return 0

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What `figures` compares, a row for each sample; drawn with the samples' own noise."""
        raise NotImplementedError(f"{type(self).__name__} compares {self.num_compared} samples but draws none")

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Figures beside the held-out loss, from the rows that `draw` returned for all samples, in their order."""
        return {}

    @abc.abstractmethod
    def preview(self, network: nn.Module) -> Image.Image | None:
        """A grid of samples from `network`, always of the same pictures and noise; None if there is nothing to see."""

    @abc.abstractmethod
    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        """Write what the pipeline loads for this stage, with the state dict of its network, to `folder`."""


def batch_device(batch: Batch) -> torch.device:
    """Where a batch's tensors are."""
    return next(iter(batch.tensors.values())).device
