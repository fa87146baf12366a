"""The order of samples: every item once per epoch, and resuming by arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.data import batch_indices, epoch_order
from unclip.errors import InputError

SIZES = st.integers(1, 40)


@given(num_items=SIZES, seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation(num_items: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_items, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(num_items))


@given(num_items=SIZES, batch_size=SIZES, seed=st.integers(0, 99))
def test_each_epoch_holds_every_item_once(num_items: int, batch_size: int, seed: int) -> None:
    batches = [batch_indices(num_items, batch_size, step * batch_size, seed) for step in range(3 * num_items)]
    seen = np.concatenate(batches)
    for epoch in range(len(seen) // num_items):
        assert sorted(seen[epoch * num_items : (epoch + 1) * num_items]) == list(range(num_items))


@given(num_items=SIZES, first=SIZES, second=SIZES, images_seen=st.integers(0, 500))
def test_batches_join_whatever_their_size(num_items: int, first: int, second: int, images_seen: int) -> None:
    whole = batch_indices(num_items, first + second, images_seen, 3)
    head = batch_indices(num_items, first, images_seen, 3)
    tail = batch_indices(num_items, second, images_seen + first, 3)
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_order_is_pinned() -> None:
    # A run that was interrupted before an upgrade must resume in the same order.
    assert epoch_order(8, 7, 0).tolist() == [0, 6, 7, 2, 4, 5, 1, 3]
    assert epoch_order(8, 7, 1).tolist() == [6, 3, 1, 0, 2, 4, 7, 5]


@pytest.mark.parametrize("arguments", [(0, 4, 0, 1), (4, 0, 0, 1), (4, 4, -1, 1), (4, 4, 0, -1)])
def test_impossible_orders(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError):
        batch_indices(*arguments)
