"""The batches of one process: which samples, and fetched ahead. Knows no network and no loss."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, Dataset

from unclip.data import Order
from unclip.errors import ConfigError, DataError
from unclip.training.config import TrainConfig
from unclip.training.distributed import Cluster
from unclip.training.stop import outlive_first_signal
from unclip.training.task import Batch, Request, Samples

__all__ = ["Feed", "held_out", "rows_of_pass"]


class Feed:
    """Samples in the order of the run, cut to this process's share of every batch."""

    def __init__(self, samples: Samples, config: TrainConfig, cluster: Cluster) -> None:
        self.samples, self.config, self.cluster = samples, config, cluster
        source = samples.source
        apart = held_out(source.keys, config.data.validation_share)
        self.held_out = np.flatnonzero(apart)[: config.num_validation]
        self.trained_on = np.flatnonzero(~apart)
        if not len(self.trained_on):
            raise DataError(f"{config.data.folder} leaves no sample to train on; lower data.validation_share.")
        owners = np.repeat(np.arange(len(source.shard_sizes)), source.shard_sizes)[self.trained_on]
        sizes = np.bincount(owners, minlength=len(source.shard_sizes)).tolist()
        self.order = Order(sizes, config.seed, lanes=config.data.lanes, window=config.data.shuffle_shards)
        self.num_rows = rows_of_pass(config, cluster.size)

    def batches(self, images_seen: int) -> Iterator[Batch]:
        """The batches that follow after `images_seen` images, for ever."""
        workers = self.config.data.num_workers
        loader = DataLoader(
            _Fetched(self.samples),
            sampler=_Requests(self, images_seen),
            batch_size=None,
            num_workers=workers,
            # Copies to a GPU wait for nothing, and keep the order, only from pinned memory.
            pin_memory=self.cluster.device.type == "cuda",
            prefetch_factor=2 if workers else None,
            worker_init_fn=outlive_first_signal,
        )
        return iter(loader)

    def validation(self) -> Iterator[Batch]:
        """This process's share of the held-out samples, always with the same draws; nothing if there are none."""
        size, cluster = self.config.batch_size, self.cluster
        # Cut to a multiple, so that every process takes part in every pass.
        count = len(self.held_out) // cluster.size * cluster.size
        for start in range(0, count, size):
            indices = self.held_out[start : min(start + size, count)]
            slots = np.arange(len(indices))[cluster.rank :: cluster.size]
            yield self.samples(Request(indices[slots], slots, len(indices), start, self.config.seed, is_held_out=True))

    def request(self, images_seen: int) -> Request:
        """What this process is to compute of the batch after `images_seen` images."""
        size, cluster = self.config.batch_size, self.cluster
        slots = np.arange(size)[cluster.rank :: cluster.size]
        indices = self.trained_on[self.order.batch(images_seen, size)]
        return Request(indices[slots], slots, size, images_seen, self.config.seed)


class _Requests:
    """The requests of a run from a place on; a `DataLoader` hands them to its workers."""

    def __init__(self, feed: Feed, images_seen: int) -> None:
        self.feed, self.images_seen = feed, images_seen

    def __iter__(self) -> Iterator[Request]:
        images_seen = self.images_seen
        while True:
            yield self.feed.request(images_seen)
            images_seen += self.feed.config.batch_size


class _Fetched(Dataset[Batch]):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, request: Request) -> Batch:
        return self.samples(request)


def held_out(keys: Sequence[str], share: float) -> np.ndarray:
    """Which samples are held out, (samples,) bool: a choice by each key alone, so it outlives changes of the set."""
    if share == 0.0:
        return np.zeros(len(keys), bool)
    draws = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys]
    return np.asarray(draws) < share


def rows_of_pass(config: TrainConfig, num_processes: int) -> int:
    """Samples of one forward pass in one process; raises `ConfigError` where they do not divide the batch."""
    share, rest = divmod(config.batch_size, num_processes)
    rows = config.micro_batch_size or share
    if rest or share % rows:
        shared = f"cannot be shared by {num_processes} processes" if num_processes > 1 else "does not divide"
        raise ConfigError(
            f"batch_size={config.batch_size} {shared} in passes of "
            f"micro_batch_size={rows}; use a multiple of {num_processes * rows}."
        )
    return rows
