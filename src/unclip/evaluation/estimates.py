"""How sure a figure is: a spread over parts, and an interval by drawing rows again. Knows rows; no metric."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from unclip.errors import InputError
from unclip.evaluation.rows import Rows
from unclip.runtime import seeded

__all__ = ["Estimate", "Interval", "bootstrap"]

MIN_RESAMPLES = 2


class Estimate(NamedTuple):
    """A mean over parts of a set and the deviation among them (over their number, as published figures have it)."""

    value: float
    std: float


class Interval(NamedTuple):
    """The ends of an interval in which a figure lies at some level of confidence."""

    low: float
    high: float


# Percentile interval, Efron 1979; shifted as said below.
def bootstrap(
    function: Callable[..., float], *rows: Rows, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The middle `level` of `function` over sets drawn with replacement from `rows`, around its value at `rows`.

    All `rows` are pairs: they are drawn by the same numbers; what shall stay fixed stands in `function`. A set that
    holds rows twice is farther from any other than its source is, so distances of redrawn sets lie above the distance
    itself: all values are shifted by one number, so that their mean is `function(*rows)`. Raises `InputError` for fewer
    than 2 resamples, a level outside (0, 1) and sets of different sizes.
    """
    if num_resamples < MIN_RESAMPLES:
        raise InputError(f"num_resamples={num_resamples} give no interval; use at least {MIN_RESAMPLES}.")
    if not 0 < level < 1:
        raise InputError(f"level={level} is no level of confidence; use one between 0 and 1, such as 0.95.")
    sizes = {len(part) for part in rows}
    if len(sizes) != 1:
        raise InputError(f"sets of {sorted(sizes)} rows are no pairs; give sets of one size.")
    [size] = sizes
    values = torch.empty(num_resamples, dtype=torch.float64)
    for number in range(num_resamples):
        drawn = torch.randint(size, (size,), generator=seeded(seed, number))
        values[number] = function(*(part[drawn.to(part.device)] for part in rows))
    shifted = values - values.mean() + function(*rows)
    low, high = shifted.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return Interval(low, high)
