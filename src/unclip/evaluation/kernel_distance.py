"""The kernel distance (KID) of two sets of features. Knows rows of numbers; no picture and no network."""

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.estimates import Estimate
from unclip.evaluation.rows import Rows, blocks, check_pair
from unclip.runtime import seeded

__all__ = ["kernel_distance", "kernel_distance_of_subsets"]

MIN_ROWS = 2


def kernel_distance(first: Rows, second: Rows) -> float:
    """The unbiased squared MMD under the cubic kernel, over all pairs, in float64.

    Its mean over sets of one distribution is 0, so it may be negative; two equal sets of n rows have
    -2/n times the gap between the kernel's mean on rows themselves and on pairs of them. Raises `InputError` for
    fewer than 2 rows, for NaN or infinite features, and for features of different sizes.
    """
    check_pair(first, second, MIN_ROWS)
    return _distance(first, second)


def kernel_distance_of_subsets(
    first: Rows, second: Rows, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """KID as it is published: mean and deviation over random subsets, each without a row twice.

    Raises like `kernel_distance`, and `InputError` for subsets larger than either set.
    """
    check_pair(first, second, MIN_ROWS)
    smallest = min(len(first), len(second))
    if not MIN_ROWS <= subset_size <= smallest:
        raise InputError(f"subset_size={subset_size} is not between {MIN_ROWS} and the {smallest} rows of a set.")
    if num_subsets < 1:
        raise InputError(f"num_subsets={num_subsets} gives no figure; use at least 1.")
    values = torch.empty(num_subsets, dtype=torch.float64)
    for number in range(num_subsets):
        generator = seeded(seed, number)
        parts = [rows[_some(len(rows), subset_size, generator).to(rows.device)] for rows in (first, second)]
        values[number] = _distance(*parts)
    return Estimate(values.mean().item(), values.std(correction=0).item())


def _some(count: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:size]


# KID, Binkowski et al. 2018, eq. 3 and section 4.
def _distance(first: Tensor, second: Tensor) -> float:
    n, m = len(first), len(second)
    within = _within(first) / (n * (n - 1)) + _within(second) / (m * (m - 1))
    return within - 2 * _across(first, second) / (n * m)


# The cubic kernel (x.y / dim + 1)^3, Binkowski et al. 2018, section 4.
def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _across(first: Tensor, second: Tensor) -> float:
    return sum(_kernel(a, b).sum().item() for a in blocks(first) for b in blocks(second))


def _within(rows: Tensor) -> float:
    """The sum over pairs of different rows."""
    return _across(rows, rows) - sum(_kernel(a, a).diagonal().sum().item() for a in blocks(rows))
