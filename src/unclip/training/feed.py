"""Load the batches of one process: which samples they hold, and loading ahead."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from unclip.data import BalancedOrder, Order, read_groups
from unclip.errors import ConfigError, DataError
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.stop import outlive_first_signal
from unclip.training.task import Batch, Request, Samples

PLACE = "place"
"""The tensor of a held-out batch with the places of its samples."""


class Feed:
    """Samples in the order of the run, cut to this process's share of every batch."""

    def __init__(self, samples: Samples, config: TrainConfig, cluster: Cluster) -> None:
        self.samples, self.config, self.cluster = samples, config, cluster
        source = samples.source
        is_held_out = held_out(source.keys, config.data.validation_share)
        self.held_out = np.flatnonzero(is_held_out)[: config.num_validation]
        self.trained_on = np.flatnonzero(~is_held_out)
        if not len(self.trained_on):
            raise DataError(f"{config.data.folder} leaves no sample to train on; lower data.validation_share.")
        self.num_rows = rows_of_pass(config, cluster.size)
        self.order: Order | BalancedOrder
        self.notes: tuple[str, ...] = ()
        """Lines about the order for the user, shown when the run starts."""
        if config.data.balance:
            groups = read_groups(config.data.folder, config.data.balance, source.keys, "data.balance")
            self.order = BalancedOrder(groups[self.trained_on], config.seed, config.data.balance_power)
            self.notes = (balance_note(config, self.order),)
        else:
            owners = np.repeat(np.arange(len(source.shard_sizes)), source.shard_sizes)[self.trained_on]
            sizes = np.bincount(owners, minlength=len(source.shard_sizes)).tolist()
            self.order = Order(sizes, config.seed, lanes=config.data.lanes, window=config.data.shuffle_shards)

    def batches(self, images_seen: int) -> Iterator[Batch]:
        """Load the batches after `images_seen` images, without end."""
        workers = self.config.data.num_workers
        loader = DataLoader(
            _RequestedBatches(self.samples),
            sampler=map(self.request, itertools.count(images_seen, self.config.batch_size)),
            batch_size=None,
            num_workers=workers,
            # Copies to a GPU are asynchronous, and in order, only from pinned memory.
            pin_memory=self.cluster.device.type == "cuda",
            prefetch_factor=2 if workers else None,
            worker_init_fn=outlive_first_signal,
        )
        return iter(loader)

    def validation(self, count: int | None = None) -> Iterator[Batch]:
        """Load this process's share of the held-out samples, or of the first `count`; nothing if there are none.

        Always the same samples and draws. `place` numbers the samples of a batch. It is -1 where a process has fewer of
        them than another and repeats one: sharded networks need as many passes, of as many rows, in every process.
        """
        size, cluster, total = self.config.batch_size, self.cluster, len(self.held_out)
        end = total if count is None else min(count, total)
        for start in range(0, end, size):
            stop = min(start + size, end)
            places = np.arange(start, start + -(-(stop - start) // cluster.size) * cluster.size)
            places = places[cluster.rank :: cluster.size]
            slots = np.minimum(places, stop - 1)
            batch = self.samples(Request(self.held_out[slots], slots, total, 0, self.config.seed, is_held_out=True))
            place = torch.from_numpy(np.where(places < stop, places - start, -1))
            yield Batch({**batch.tensors, PLACE: place}, batch.skipped)

    def request(self, images_seen: int) -> Request:
        """Return what this process has to compute of the batch after `images_seen` images."""
        size, cluster = self.config.batch_size, self.cluster
        slots = np.arange(size)[cluster.rank :: cluster.size]
        indices = self.trained_on[self.order.batch(images_seen, size)]
        return Request(indices[slots], slots, size, images_seen, self.config.seed)


class _RequestedBatches(Dataset[Batch]):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, request: Request) -> Batch:
        return self.samples(request)


def held_out(keys: Sequence[str], share: float) -> np.ndarray:
    """Choose the held-out samples, (samples,) bool, by each key alone: the choice outlives changes of the set."""
    if share == 0.0:
        return np.zeros(len(keys), bool)
    draws = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys]
    return np.asarray(draws) < share


def balance_note(config: TrainConfig, order: BalancedOrder) -> str:
    """Describe the groups of a balanced run, and what the balance does to the smallest and the largest."""
    sizes, draws = order.sizes, order.draws
    rarest, largest = int(sizes.argmin()), int(sizes.argmax())
    return (
        f"balanced by {', '.join(config.data.balance)}: {len(sizes):,} groups of {sizes[rarest]:,} to "
        f"{sizes[largest]:,} samples; a sample of the rarest is seen {draws[rarest] / sizes[rarest]:.3g} times an "
        f"epoch, one of the largest {draws[largest] / sizes[largest]:.3g} times."
    )


def rows_of_pass(config: TrainConfig, num_processes: int) -> int:
    """Return the samples of one forward pass in one process; raises `ConfigError` if they do not divide the batch."""
    share, rest = divmod(config.batch_size, num_processes)
    rows = config.micro_batch_size or share
    if rest or share % rows:
        shared = f"cannot be shared by {num_processes} processes" if num_processes > 1 else "does not divide"
        raise ConfigError(
            f"batch_size={config.batch_size} {shared} in passes of "
            f"micro_batch_size={rows}; use a multiple of {num_processes * rows}."
        )
    return rows
