"""Order the samples of a training run, as a pure function of the seed."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int32, Int64

from unclip.errors import InputError

Indices = Int32[np.ndarray, " items"] | Int64[np.ndarray, " items"]
CACHED_EPOCHS = 2


def epoch_order(num_items: int, seed: int, epoch: int) -> Int64[np.ndarray, " items"]:
    """Permute range(num_items), differently for each (seed, epoch); raises `InputError` for no items."""
    if num_items < 1 or seed < 0 or epoch < 0:
        raise InputError(
            f"num_items={num_items}, seed={seed}, epoch={epoch} give no order; use num_items >= 1, the rest >= 0."
        )
    return np.random.default_rng([seed, epoch]).permutation(num_items).astype(np.int64)


class Order:
    """The samples of each batch: each once per epoch, epochs without a gap, and no state but the arguments.

    The shards are put in a new order for each (seed, epoch); the samples of that row, cut into `lanes` parts of equal
    length, are shuffled among `window` neighbouring shards of a part (None: all of it). Position p of an epoch is the
    next sample of lane p mod `lanes`. So process r of W, which takes `batch[r::W]` of batches that W divides, reads
    lanes of its own when W divides `lanes`, hence shards of its own but for at most lanes - 1 that a cut goes through.
    With one lane and no window it is `epoch_order`. Two epochs are kept, 4 bytes a sample each.
    """

    def __init__(self, shard_sizes: Sequence[int], seed: int, lanes: int = 1, window: int | None = None) -> None:
        self.num_items = sum(shard_sizes)
        if self.num_items < 1 or min(shard_sizes) < 0 or seed < 0 or lanes < 1 or (window is not None and window < 1):
            raise InputError(
                f"{len(shard_sizes)} shards of {self.num_items} samples, seed={seed}, lanes={lanes}, window={window} "
                "give no order; use a sample, a lane and a window of at least 1, and a seed of at least 0."
            )
        self.seed, self.lanes, self.window = seed, lanes, window
        self._sizes = np.array(shard_sizes, np.int64)
        self._cache: dict[int, Indices] = {}

    def batch(self, images_seen: int, batch_size: int) -> Int64[np.ndarray, " batch"]:
        """Return the `batch_size` samples that follow after `images_seen`."""
        if batch_size < 1 or images_seen < 0:
            raise InputError(
                f"batch_size={batch_size}, images_seen={images_seen}: use a batch of at least 1, and no less than 0."
            )
        parts = []
        while batch_size > 0:
            epoch, start = divmod(images_seen, self.num_items)
            parts.append(self._epoch(epoch)[start : start + batch_size])
            images_seen, batch_size = images_seen + len(parts[-1]), batch_size - len(parts[-1])
        return np.concatenate(parts).astype(np.int64)

    def _epoch(self, epoch: int) -> Indices:
        if epoch not in self._cache:
            while len(self._cache) >= CACHED_EPOCHS:
                del self._cache[min(self._cache)]
            dtype = np.int32 if self.num_items < 2**31 else np.int64
            self._cache[epoch] = self._make_epoch(epoch).astype(dtype)
        return self._cache[epoch]

    def _make_epoch(self, epoch: int) -> Indices:
        if self.lanes == 1 and self.window is None:
            return epoch_order(self.num_items, self.seed, epoch)
        generator = np.random.default_rng([self.seed, epoch])
        shards = generator.permutation(len(self._sizes))
        sizes = self._sizes[shards]
        ends = np.cumsum(sizes)
        # The samples of all shards, one shard after the other in the new order.
        first_samples = (np.cumsum(self._sizes) - self._sizes)[shards]
        row = np.arange(self.num_items) + np.repeat(first_samples - (ends - sizes), sizes)
        cuts = np.cumsum([0, *(len(range(lane, self.num_items, self.lanes)) for lane in range(self.lanes))])
        for cut in cuts[1:-1]:
            # Else the first samples of a shard that is cut were always in the lane before.
            shard = int(np.searchsorted(ends, cut, side="left"))
            generator.shuffle(row[ends[shard - 1] if shard else 0 : ends[shard]])
        mixed = np.empty_like(row)
        for lane, (first, last) in enumerate(pairwise(cuts.tolist())):
            # Shuffled among `window` shards, whole or cut by the lane.
            inside = ends[(ends > first) & (ends < last)]
            borders = [] if self.window is None else inside[self.window - 1 :: self.window].tolist()
            for start, end in pairwise([first, *borders, last]):
                generator.shuffle(row[start:end])
            mixed[lane :: self.lanes] = row[first:last]
        return mixed
