"""Work on many items in processes, in order. Knows no item."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
ITEMS_PER_JOB = 16
JOBS_AHEAD = 2


def ordered_map(function: Callable[[A], B], items: Iterable[A], num_workers: int) -> Iterator[B]:
    """`map(function, items)` by `num_workers` processes (1 or fewer: in this one), results in the order of the items.

    Items are taken no more than 48 per worker ahead, so that a set need not fit into memory (`Executor.map` takes all
    of them at once). With more than one worker `function` must be picklable.
    """
    if num_workers <= 1:
        yield from map(function, items)
        return
    # Processes, since resvg and Python hold the interpreter's lock; spawned, since a fork would copy torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        waiting: deque[Future[list[B]]] = deque()
        for job in _jobs(items):
            waiting.append(pool.submit(_apply, function, job))
            if len(waiting) > num_workers * JOBS_AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _jobs(items: Iterable[A]) -> Iterator[list[A]]:
    remaining = iter(items)
    while job := list(islice(remaining, ITEMS_PER_JOB)):
        yield job


def _apply(function: Callable[[A], B], job: list[A]) -> list[B]:
    return [function(item) for item in job]
