"""How certain a figure is: a spread over parts, and an interval by drawing rows again."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.features import Counts, Rows
from unclip.runtime import seeded

MIN_RESAMPLES = 2


class Estimate(NamedTuple):
    """A mean over parts of a set, and their deviation (divided by their number, as published figures are)."""

    value: float
    std: float


class ConfidenceInterval(NamedTuple):
    """The ends between which a figure lies at some level of confidence."""

    low: float
    high: float


def bootstrap(
    function: Callable[..., float], *rows: Rows, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> ConfidenceInterval:
    """Compute the middle `level` of `function` over sets drawn with replacement from `rows`, around `function(*rows)`.

    The rows of several sets are pairs and are drawn together; a fixed set belongs into `function`. A set with repeated
    rows is farther from any other than its source is, so distances come out larger: all values are shifted alike, to
    have `function(*rows)` as their mean. Raises `InputError` for no rows, sets of different sizes, fewer than
    2 resamples and a level outside (0, 1).
    """
    sizes = {len(part) for part in rows}
    if len(sizes) != 1 or sizes == {0}:
        raise InputError(f"sets of {sorted(sizes)} rows are no pairs to draw; give sets of one size.")
    check_resampling(num_resamples, level)
    values = [
        function(*(part.repeat_interleave(times.to(part.device, torch.int64), dim=0) for part in rows))
        for times in drawn_counts(sizes.pop(), num_resamples, seed).T
    ]
    return interval_of(torch.tensor(values, dtype=torch.float64), level)


def check_resampling(num_resamples: int, level: float) -> None:
    """Raise `InputError` for numbers that give no interval."""
    if num_resamples < MIN_RESAMPLES:
        raise InputError(f"num_resamples={num_resamples} gives no interval; use at least {MIN_RESAMPLES}.")
    if not 0 < level < 1:
        raise InputError(f"level={level} is no level of confidence; use one between 0 and 1, such as 0.95.")


def drawn_counts(size: int, num_resamples: int, seed: int) -> Counts:
    """Count how often each of `size` rows is drawn: once in the first column, then with replacement, `size` in all."""
    counts = torch.ones(size, 1 + num_resamples, dtype=torch.int16)
    for number in range(num_resamples):
        drawn = torch.randint(size, (size,), generator=seeded(seed, number))
        counts[:, 1 + number] = drawn.bincount(minlength=size)
    return counts


# Percentile interval, Efron 1979, of values that are shifted as `bootstrap` says.
def interval_of(values: Float[Tensor, " _values"], level: float) -> ConfidenceInterval:
    """Return the interval of a figure, the first value, by its values at drawn sets, the others."""
    shifted = values[1:] - values[1:].mean() + values[0]
    low, high = shifted.quantile(shifted.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return ConfidenceInterval(low, high)
