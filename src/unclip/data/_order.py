"""The order in which a trainer sees its samples, as pure functions of the seed. Knows numbers only, no data."""

import numpy as np
from jaxtyping import Int64

from unclip.errors import InputError

__all__ = ["batch_indices", "epoch_order"]


def epoch_order(num_items: int, seed: int, epoch: int) -> Int64[np.ndarray, " items"]:
    """A permutation of range(num_items), another one for each (seed, epoch); raises `InputError` when it is empty."""
    if num_items < 1 or seed < 0 or epoch < 0:
        raise InputError(
            f"num_items={num_items}, seed={seed}, epoch={epoch} give no order; use num_items >= 1, the rest >= 0."
        )
    return np.random.default_rng([seed, epoch]).permutation(num_items).astype(np.int64)


def batch_indices(num_items: int, batch_size: int, images_seen: int, seed: int) -> Int64[np.ndarray, " batch"]:
    """The items of the batch that follows after `images_seen` images: resuming is arithmetic, there is no state.

    Epochs follow each other without a gap, so a batch may span two of them (or more, when it is larger than the set);
    each epoch holds every item once.
    """
    if batch_size < 1 or images_seen < 0:
        raise InputError(
            f"batch_size={batch_size}, images_seen={images_seen}: use a batch of at least 1, and no less than 0."
        )
    first, last = images_seen // max(num_items, 1), (images_seen + batch_size - 1) // max(num_items, 1)
    order = np.concatenate([epoch_order(num_items, seed, epoch) for epoch in range(first, last + 1)])
    start = images_seen - first * num_items
    return order[start : start + batch_size]
