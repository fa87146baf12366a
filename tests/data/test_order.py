"""The order of samples: every item once per epoch, or groups by their weights, and resuming by arithmetic."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.data import BalancedOrder, Order, epoch_order
from unclip.errors import InputError

SIZES = st.integers(1, 40)
SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
LANES = st.integers(1, 5)
WINDOWS = st.none() | st.integers(1, 14)
GROUPS = st.lists(st.integers(-3, 9), min_size=1, max_size=40)
POWERS = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0.0, 1.0)


@given(num_items=SIZES, seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation(num_items: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_items, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(num_items))


@given(num_items=SIZES, batch_size=SIZES, seed=st.integers(0, 99))
def test_each_epoch_holds_every_item_once(num_items: int, batch_size: int, seed: int) -> None:
    order = Order([num_items], seed)
    batches = [order.batch(step * batch_size, batch_size) for step in range(3 * num_items)]
    seen = np.concatenate(batches)
    for epoch in range(len(seen) // num_items):
        assert sorted(seen[epoch * num_items : (epoch + 1) * num_items]) == list(range(num_items))


@given(num_items=SIZES, first=SIZES, second=SIZES, images_seen=st.integers(0, 500))
def test_batches_join_whatever_their_size(num_items: int, first: int, second: int, images_seen: int) -> None:
    order = Order([num_items], 3)
    whole = order.batch(images_seen, first + second)
    head = order.batch(images_seen, first)
    tail = order.batch(images_seen + first, second)
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_order_is_pinned() -> None:
    # A run that was interrupted before an upgrade must resume in the same order.
    assert epoch_order(8, 7, 0).tolist() == [0, 6, 7, 2, 4, 5, 1, 3]
    assert epoch_order(8, 7, 1).tolist() == [6, 3, 1, 0, 2, 4, 7, 5]


@pytest.mark.parametrize("arguments", [(0, 1, 0), (4, -1, 0), (4, 1, -1)])
def test_impossible_orders(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="give no order"):
        epoch_order(*arguments)


def epoch_of(order: Order, epoch: int) -> np.ndarray:
    return order.batch(epoch * order.num_items, order.num_items)


@given(shard_sizes=SHARDS, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_one_lane_without_window_is_the_old_order(shard_sizes: list[int], seed: int, epoch: int) -> None:
    order = Order(shard_sizes, seed)
    np.testing.assert_array_equal(epoch_of(order, epoch), epoch_order(sum(shard_sizes), seed, epoch))
    orders = np.concatenate([epoch_order(sum(shard_sizes), seed, epoch + later) for later in range(23)])
    for start in (0, 1, 5):
        batch = order.batch(epoch * sum(shard_sizes) + start, 17)
        np.testing.assert_array_equal(batch, orders[start : start + 17])


@given(
    shard_sizes=SHARDS,
    lanes=LANES,
    window=WINDOWS,
    share=st.integers(1, 5),
    world=st.sampled_from([1, 2, 4]),
    images_seen=st.integers(0, 300),
)
def test_processes_share_each_epoch_wherever_they_start(
    shard_sizes: list[int], lanes: int, window: int | None, share: int, world: int, images_seen: int
) -> None:
    num_items, batch_size = sum(shard_sizes), share * world
    # Each process has an order of its own, which knows only the numbers.
    orders = [Order(shard_sizes, 3, lanes, window) for _ in range(world)]
    slots = []
    for start in range(images_seen, images_seen + 3 * num_items, batch_size):
        parts = [order.batch(start, batch_size)[rank::world] for rank, order in enumerate(orders)]
        assert {len(part) for part in parts} == {share}
        slots += np.stack(parts, axis=1).ravel().tolist()
    first = -images_seen % num_items
    for begin in range(first, len(slots) - num_items + 1, num_items):
        assert sorted(slots[begin : begin + num_items]) == list(range(num_items))


@given(shard_sizes=SHARDS, lanes=st.sampled_from([1, 2, 4, 8]), window=WINDOWS, epoch=st.integers(0, 4))
def test_processes_read_shards_of_their_own(shard_sizes: list[int], lanes: int, window: int | None, epoch: int) -> None:
    order = Order(shard_sizes, 5, lanes, window)
    shard_of = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    for world in (world for world in (1, 2, 4) if lanes % world == 0):
        read = [set(shard_of[epoch_of(order, epoch)[rank::world]].tolist()) for rank in range(world)]
        shared = sum(len(shards) for shards in read) - len(set.union(*read))
        assert shared <= lanes - 1


@given(shard_sizes=SHARDS, window=st.integers(1, 14), epoch=st.integers(0, 4))
def test_a_window_is_all_that_is_open_at_once(shard_sizes: list[int], window: int, epoch: int) -> None:
    shard_of = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    shards = shard_of[epoch_of(Order(shard_sizes, 1, 1, window), epoch)].tolist()
    first = {shard: shards.index(shard) for shard in shards}
    last = {shard: len(shards) - 1 - shards[::-1].index(shard) for shard in shards}
    for place in range(len(shards)):
        assert sum(first[shard] <= place <= last[shard] for shard in first) <= window


def test_all_orders_are_equally_likely_in_a_window_of_all_shards() -> None:
    order = Order([2, 1, 1], 0, 1, 3)
    counts = Counter(tuple(epoch_of(order, epoch)) for epoch in range(4800))
    assert len(counts) == 24
    # 200 of each are expected, with a deviation of 13.8.
    assert max(abs(count - 200) for count in counts.values()) < 4 * 13.8


@pytest.mark.parametrize("window", [1, 2, None])
def test_each_sample_is_equally_likely_at_each_place_also_where_a_cut_goes_through_a_shard(window: int | None) -> None:
    order = Order([2, 2, 2], 0, 2, window)
    epochs = np.stack([epoch_of(order, epoch) for epoch in range(3600)])
    counts = np.stack([np.bincount(places, minlength=6) for places in epochs.T])
    # 600 of each are expected, with a deviation of 22.4.
    assert np.abs(counts - 600).max() < 4 * 22.4


def test_lanes_and_windows_are_pinned() -> None:
    # A run that was interrupted before an upgrade must resume in the same order.
    assert epoch_of(Order([3, 3, 2], 7, 2, 1), 1).tolist() == [2, 6, 0, 5, 1, 4, 7, 3]


def test_two_epochs_are_kept() -> None:
    order = Order([500, 500], 0, 2, 1)
    wanted = {epoch: epoch_of(order, epoch) for epoch in (0, 1, 7, 2)}
    for epoch in (7, 0, 2, 1, 0):
        np.testing.assert_array_equal(epoch_of(order, epoch), wanted[epoch])
    assert len(order._cache) == 2


@pytest.mark.parametrize(
    "arguments", [([], 0), ([0], 0), ([3, -1], 0), ([3], -1), ([3], 0, 0), ([3], 0, 1, 0), ([3], 0, -1, 2)]
)
def test_impossible_lanes(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="give no order"):
        Order(*arguments)


@pytest.mark.parametrize("arguments", [(-1, 4), (0, 0)])
def test_impossible_batches(arguments: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="use a batch of at least 1"):
        Order([3], 0).batch(*arguments)


@given(groups=GROUPS, power=POWERS, seed=st.integers(0, 2**63 - 1))
def test_groups_are_drawn_as_often_as_their_sizes_to_a_power_say(groups: list[int], power: float, seed: int) -> None:
    order = BalancedOrder(np.array(groups), seed, power)
    sizes = Counter(groups)
    weights = {group: size**power for group, size in sizes.items()}
    drawn: Counter[int] = Counter()
    for epoch in range(1, 12):
        drawn.update(groups[sample] for sample in epoch_of(order, epoch - 1))
        for group, weight in weights.items():
            assert abs(drawn[group] - epoch * len(groups) * weight / sum(weights.values())) < 1.0 + 1e-6
    assert drawn.total() == 11 * len(groups)


@given(groups=GROUPS, power=POWERS, seed=st.integers(0, 99))
def test_no_sample_comes_again_before_all_others_of_its_group(groups: list[int], power: float, seed: int) -> None:
    stream = BalancedOrder(np.array(groups), seed, power).batch(0, 9 * len(groups)).tolist()
    for group, size in Counter(groups).items():
        drawn = [sample for sample in stream if groups[sample] == group]
        members = [sample for sample, other in enumerate(groups) if other == group]
        for start in range(0, len(drawn) - size + 1, size):
            assert sorted(drawn[start : start + size]) == members
        rest = drawn[len(drawn) // size * size :]
        assert len(set(rest)) == len(rest)


@given(groups=GROUPS, power=POWERS, images_seen=st.integers(0, 500), batch_size=SIZES)
def test_balanced_batches_are_those_of_a_run_that_began_anywhere(
    groups: list[int], power: float, images_seen: int, batch_size: int
) -> None:
    whole = BalancedOrder(np.array(groups), 3, power).batch(0, images_seen + batch_size)
    resumed = BalancedOrder(np.array(groups), 3, power).batch(images_seen, batch_size)
    np.testing.assert_array_equal(resumed, whole[images_seen:])


@given(groups=GROUPS, seed=st.integers(0, 99), epoch=st.integers(0, 50))
def test_power_one_draws_every_sample_once_per_epoch(groups: list[int], seed: int, epoch: int) -> None:
    assert sorted(epoch_of(BalancedOrder(np.array(groups), seed, 1.0), epoch)) == list(range(len(groups)))


def test_samples_of_a_group_are_shuffled_evenly() -> None:
    order = BalancedOrder(np.zeros(3, np.int64), 0)
    counts = Counter(tuple(epoch_of(order, epoch)) for epoch in range(4800))
    assert len(counts) == 6
    # 800 of each are expected, with a deviation of 25.8.
    assert max(abs(count - 800) for count in counts.values()) < 4 * 25.8


def test_groups_are_spread_evenly_over_an_epoch() -> None:
    order = BalancedOrder(np.array([0, 1, 1, 1, 1, 1]), 0)
    places = np.sum([epoch_of(order, epoch) == 0 for epoch in range(3600)], axis=0)
    # Three of six draws: 1800 at each place are expected, with a deviation of 30.
    assert np.abs(places - 1800).max() < 4 * 30


def test_balanced_order_is_pinned() -> None:
    # A run that was interrupted before an upgrade must resume in the same order.
    assert epoch_of(BalancedOrder(np.array([5, 5, 5, 5, -1, 5, 2, 2]), 7, 0.5), 2).tolist() == [3, 4, 6, 6, 2, 5, 4, 2]


def test_an_epoch_of_many_groups_is_made_at_once() -> None:
    # 100,000 samples in 60,000 groups, as a large set has names that occur once.
    order = BalancedOrder(np.arange(100_000) % 60_000, 0)
    assert order.batch(0, 100_000).max() < 100_000
    assert order.draws.min() == order.draws.max() == pytest.approx(100_000 / 60_000)


@pytest.mark.parametrize("arguments", [([], 0), ([1], -1), ([1], 0, -0.1), ([1], 0, 1.5)])
def test_impossible_balances(arguments: tuple[Any, ...]) -> None:
    groups, *others = arguments
    with pytest.raises(InputError, match="give no order"):
        BalancedOrder(np.array(groups, np.int64), *others)
