"""The contract between the trainer and what it trains: requests, batches, samples, tasks."""

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.runtime import seeded

Gather: TypeAlias = Callable[[Tensor], Tensor]
"""Concatenates the rows of all processes; see `Cluster.gather`."""


class TaskLoss(NamedTuple):
    """A differentiable scalar, and numbers for the log."""

    loss: Tensor
    metrics: dict[str, float]


class Task(abc.ABC):
    """A stage under training: its network, its samples and its loss."""

    samples: "Samples"
    notes: tuple[str, ...] = ()
    """Lines about the data for the user, shown when the run starts."""
    embedded: Tensor | None = None
    """Embeddings of pictures that were computed for this task, so that other processes need not compute them again."""
    num_compared: int | None = 0
    """Held-out samples that `figures` compares: None for all, 0 for a stage without figures."""
    methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the network that are called besides `forward`, for which FSDP has to gather weights too."""

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """Build the network on the CPU, or on the meta device; the same weights every time."""

    def exported(self, network: nn.Module) -> nn.Module:
        """Return the part of the network that is the stage; what else it has is of use in training alone."""
        return network

    def split(self, batch: "Batch", num_rows: int) -> list["Batch"]:
        """Split a batch into parts of at most `num_rows` samples that go through the network one after the other."""
        return batch.split(num_rows)

    def prepare(self, network: nn.Module, parts: list["Batch"], gather: Gather) -> list["Batch"]:
        """Add to each part what its loss needs to know of all others; only a loss that compares samples does."""
        return parts

    @abc.abstractmethod
    def forward(self, network: nn.Module, batch: "Batch") -> dict[str, Tensor]:
        """Run the network on a batch; returns what the loss is computed from, a row for each sample."""

    def loss(self, network: nn.Module, rows: Mapping[str, Tensor], gather: Gather) -> TaskLoss:
        """Compute the mean loss over the samples from what `forward` returned for them."""
        return TaskLoss(rows["loss"].mean(), {})

    def draw(self, network: nn.Module, batch: "Batch") -> dict[str, Tensor]:
        """Sample what `figures` compares, a row for each sample, from the samples' own noise."""
        raise NotImplementedError(f"{type(self).__name__} compares {self.num_compared} samples but draws none")

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute figures beside the held-out loss from the rows that `draw` returned for all samples, in order."""
        return {}

    def preview(self, network: nn.Module) -> Image.Image | None:
        """Draw a grid of samples, always of the same pictures and noise; None for a stage without pictures."""
        return None

    @abc.abstractmethod
    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        """Write the stage with this state dict to `folder` as pipelines load it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors with the samples first, and which samples could not be read."""

    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...] = ()
    """Samples that were damaged, with the reason; their neighbours took their places."""

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device) -> "Batch":
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(moved, self.skipped)

    def pin_memory(self) -> "Batch":
        """Copy to memory that a GPU can read by itself; torch's loaders call this."""
        return Batch({name: tensor.pin_memory() for name, tensor in self.tensors.items()}, self.skipped)

    def rows(self, rows: Tensor | slice) -> "Batch":
        """Select some of the samples."""
        return Batch({name: tensor[rows] for name, tensor in self.tensors.items()})

    def split(self, num_rows: int) -> list["Batch"]:
        """Split into parts of `num_rows` samples; the last may be smaller."""
        return [self.rows(slice(start, start + num_rows)) for start in range(0, len(self), num_rows)]


@runtime_checkable
class SampleSet(Protocol):
    """Which samples there are; pictures and stored features alike."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the samples."""

    @property
    def shard_sizes(self) -> Sequence[int]:
        """Samples of each shard, in the order of `keys`."""


@runtime_checkable
class Samples(Protocol):
    """A data set that answers requests; picklable, and without a device, so that loader processes can hold it."""

    @property
    def source(self) -> SampleSet:
        """The set that is read."""

    def __call__(self, request: "Request") -> Batch:
        """Read, draw and prepare all that a loss needs but the networks' work."""


class Stream(enum.IntEnum):
    """What random numbers are for: no two uses of a run share theirs.

    The number after one of a request's streams is that of the same draws for the held-out samples.
    """

    SAMPLES = 0
    """Drawn for one sample."""
    SHARED = 2
    """Drawn for a whole batch, the same in every process."""
    DROPOUT = 4
    """Drawn by the network itself, in one process."""
    SELF_CONDITIONING = 5
    """Whether the network reads its own estimate: drawn once for a batch of training, or once a held-out sample."""


@dataclass(frozen=True, eq=False)
class Request:
    """What one process computes of one step: these samples, in these places of the whole batch.

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
        stream = Stream.SAMPLES + self.is_held_out
        return [seeded(self.seed, stream, self.images_seen + int(slot)) for slot in self.slots]

    def shared(self, use: Literal[Stream.SHARED, Stream.SELF_CONDITIONING] = Stream.SHARED) -> torch.Generator:
        """Make a generator for what is drawn for the whole batch at once, the same in every process."""
        return seeded(self.seed, use + self.is_held_out, self.images_seen)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers, (samples, *shape) float32."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers in [0, 1), (samples, *shape) float32."""
        return torch.stack([torch.rand(shape, generator=generator) for generator in self.generators])
