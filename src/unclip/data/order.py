"""Order the samples of a training run, as a pure function of the seed."""

import abc
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

from unclip.errors import InputError

Indices = Int32[np.ndarray, " items"] | Int64[np.ndarray, " items"]
CACHED_EPOCHS = 2
WEIGHT_DIGITS = 9
"""Decimals of a group's weight: the last bits of a power differ between processors, and an order must not."""


def epoch_order(num_items: int, seed: int, epoch: int) -> Int64[np.ndarray, " items"]:
    """Permute range(num_items), differently for each (seed, epoch); raises `InputError` for no items."""
    if num_items < 1 or seed < 0 or epoch < 0:
        raise InputError(
            f"num_items={num_items}, seed={seed}, epoch={epoch} give no order; use num_items >= 1, the rest >= 0."
        )
    return np.random.default_rng([seed, epoch]).permutation(num_items).astype(np.int64)


class EpochOrder(abc.ABC):
    """The samples of each batch, epoch after epoch without a gap, and no state but the arguments.

    Two epochs are kept, 4 bytes a sample each.
    """

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self._cache: dict[int, Indices] = {}

    @abc.abstractmethod
    def _make_epoch(self, epoch: int) -> Indices:
        """Return the samples of an epoch, `num_items` of them."""

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


class Order(EpochOrder):
    """Each sample once per epoch.

    The shards are put in a new order for each (seed, epoch); the samples of that row, cut into `lanes` parts of equal
    length, are shuffled among `window` neighbouring shards of a part (None: all of it). Position p of an epoch is the
    next sample of lane p mod `lanes`. So process r of W, which takes `batch[r::W]` of batches that W divides, reads
    lanes of its own when W divides `lanes`, hence shards of its own but for at most lanes - 1 that a cut goes through.
    With one lane and no window it is `epoch_order`.
    """

    def __init__(self, shard_sizes: Sequence[int], seed: int, lanes: int = 1, window: int | None = None) -> None:
        super().__init__(sum(shard_sizes))
        if self.num_items < 1 or min(shard_sizes) < 0 or seed < 0 or lanes < 1 or (window is not None and window < 1):
            raise InputError(
                f"{len(shard_sizes)} shards of {self.num_items} samples, seed={seed}, lanes={lanes}, window={window} "
                "give no order; use a sample, a lane and a window of at least 1, and a seed of at least 0."
            )
        self.seed, self.lanes, self.window = seed, lanes, window
        self._sizes = np.array(shard_sizes, np.int64)

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


class BalancedOrder(EpochOrder):
    """Groups of samples, each drawn by its size to a power, in epochs of as many draws as there are samples.

    A group of n samples gets the share n^power / sum of n^power of the draws: 0 draws all groups equally often, 0.5 by
    the square root of their sizes, 1 every sample once per epoch. After any number of epochs a group has been drawn as
    often as its share says, to less than one draw. Its samples come in endless permutations: none comes again before
    all of its group came. A group's draws lie anywhere in an epoch. Making one takes 140 bytes a sample for a moment.
    """

    def __init__(self, groups: Int64[np.ndarray, " items"], seed: int, power: float = 0.0) -> None:
        """Take the group of each sample, any numbers of which equal ones are one group."""
        super().__init__(len(groups))
        if self.num_items < 1 or seed < 0 or not 0.0 <= power <= 1.0:
            raise InputError(
                f"{self.num_items} samples, seed={seed}, power={power} give no order; use a sample, a seed of at least "
                "0, and a power from 0 to 1."
            )
        self.seed = seed
        _, numbers, self.sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self._members = np.argsort(numbers, kind="stable")  # group after group
        weight_of = {size: round(size**power, WEIGHT_DIGITS) for size in np.unique(self.sizes).tolist()}
        weights = [weight_of[size] for size in self.sizes.tolist()]
        self.draws: Float64[np.ndarray, " groups"] = self.num_items * np.array(weights) / math.fsum(weights)
        """Mean draws of each group per epoch, at least 1."""

    def _make_epoch(self, epoch: int) -> Indices:
        starts, ends = self._num_drawn(epoch), self._num_drawn(epoch + 1)
        # Groups are shuffled, not samples: each group's samples keep the order of their permutations.
        row = np.repeat(np.arange(len(self.sizes)), ends - starts)
        np.random.default_rng([self.seed, epoch]).shuffle(row)
        samples = np.empty_like(row)
        samples[np.argsort(row, kind="stable")] = self._drawn(starts, ends)
        return samples

    # Method of largest remainders (Hamilton). Counts never fall from epoch to epoch, since every share is at least one
    # draw per epoch: n^power <= n.
    def _num_drawn(self, num_epochs: int) -> Int64[np.ndarray, " groups"]:
        """Count the draws of each group in the first epochs, which are `num_items` per epoch in all."""
        exact = num_epochs * self.draws
        counts = np.floor(exact).astype(np.int64)
        num_missing = num_epochs * self.num_items - int(counts.sum())
        counts[np.argsort(counts - exact, kind="stable")[:num_missing]] += 1
        return counts

    def _drawn(
        self, starts: Int64[np.ndarray, " groups"], ends: Int64[np.ndarray, " groups"]
    ) -> Int64[np.ndarray, " draws"]:
        """Return the draws from `starts` to `ends` of each group's permutations, group after group."""
        # Whole permutations, one after the other, of which the first and the last may be drawn in part.
        first = starts // self.sizes
        num_permutations = -(-ends // self.sizes) - first
        sizes = np.repeat(self.sizes, num_permutations)
        permutations = np.repeat(np.arange(len(sizes)), sizes)
        lengths = num_permutations * self.sizes
        groups = np.repeat(np.arange(len(lengths)), lengths)
        places = np.arange(len(groups)) - (np.cumsum(lengths) - lengths)[groups]
        members = self._members[(np.cumsum(self.sizes) - self.sizes)[groups] + places % self.sizes[groups]]
        places += (first * self.sizes)[groups]  # in all draws of the group
        keys = _hash(self.seed, places // self.sizes[groups], members)
        members = members[np.lexsort((keys, permutations))]
        return members[(places >= starts[groups]) & (places < ends[groups])]


def _hash(
    seed: int, permutations: Int64[np.ndarray, " draws"], members: Int64[np.ndarray, " draws"]
) -> UInt64[np.ndarray, " draws"]:
    """Hash each sample's number in a permutation; sorted by their hashes, samples are shuffled."""
    state = np.full(len(members), seed, np.uint64)
    # SplitMix64 (Steele, Lea, Flood 2014): a generator for each of a million groups would take seconds.
    for values in (permutations, members):
        state += np.uint64(0x9E3779B97F4A7C15) * (values.astype(np.uint64) + np.uint64(1))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
