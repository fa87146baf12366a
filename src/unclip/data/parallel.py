"""Map a function over many items or samples by several processes, in their order, and report progress."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from unclip.data.sources.base import Broken, Sample, Source
from unclip.errors import DataError
from unclip.progress import Progress

A = TypeVar("A")
B = TypeVar("B")
ITEMS_PER_JOB = 16
JOBS_AHEAD = 2


def ordered_map(
    function: Callable[[A], B], items: Iterable[A], total: int, num_workers: int, progress: Progress | None
) -> Iterator[B]:
    """Yield `function(item)` of `total` items, computed by `num_workers` processes (1 or fewer: in this one).

    Items are taken no more than 48 per worker ahead, so that a set need not fit into memory (`Executor.map` takes all
    of them at once). With more than one worker `function` must be picklable. `progress` is called after each item.
    """
    results = map(function, items) if num_workers <= 1 else _by_workers(function, items, num_workers)
    for done, result in enumerate(results, start=1):
        yield result
        if progress is not None:
            progress(done, total)


def _by_workers(function: Callable[[A], B], items: Iterable[A], num_workers: int) -> Iterator[B]:
    # Processes, since resvg and Python hold the interpreter's lock; spawned, since a fork would copy torch's threads.
    context = multiprocessing.get_context("spawn")
    remaining, waiting = iter(items), deque[Future[list[B]]]()
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        while job := list(islice(remaining, ITEMS_PER_JOB)):
            waiting.append(pool.submit(_apply, function, job))
            if len(waiting) > num_workers * JOBS_AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _apply(function: Callable[[A], B], job: list[A]) -> list[B]:
    return [function(item) for item in job]


def map_samples(
    function: Callable[[Sample], B],
    source: Source,
    indices: Sequence[int],
    num_workers: int = 1,
    progress: Progress | None = None,
) -> Iterator[B | Broken]:
    """Do as `ordered_map` for the samples at `indices`; broken ones, and those that raise `DataError`, are `Broken`."""
    items = ((source.names[index], source.item(index)) for index in indices)
    return ordered_map(partial(_apply_to_sample, function), items, len(indices), num_workers, progress)


def _apply_to_sample(function: Callable[[Sample], B], item: tuple[str, Sample | Broken]) -> B | Broken:
    name, sample = item
    try:
        return sample if isinstance(sample, Broken) else function(sample)
    except DataError as error:
        return Broken(name=name, reason=str(error))
