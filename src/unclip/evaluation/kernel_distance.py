"""The kernel distance (KID) of two sets of features. Knows rows of numbers; no picture and no network."""

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.estimates import Estimate
from unclip.evaluation.rows import Counts, Rows, blocks, check_pair, means, once, pair_sums
from unclip.runtime import seeded

__all__ = ["kernel_distance", "kernel_distance_of_subsets", "kernel_distances"]

MIN_ROWS = 2


def kernel_distance(first: Rows, second: Rows) -> float:
    """The unbiased squared MMD under the cubic kernel, over all pairs, in float64: no subsets, so nothing is drawn.

    Its mean over sets of one distribution is 0, so it may be negative. A set and itself are no two sets of one
    distribution: they have -2/n of the gap between the kernel's means on rows with themselves and with others.
    Raises `InputError` for fewer than 2 rows, for NaN or infinite features, and for features of different sizes.
    """
    check_pair(first, second, MIN_ROWS)
    return kernel_distances(first, second, once(first)).item()


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
        raise InputError(f"num_subsets={num_subsets} gives no figure; use at least 1, such as 100.")
    values = []
    for number in range(num_subsets):
        generator = seeded(seed, number)
        left, right = (_subset(rows, subset_size, generator) for rows in (first, second))
        values.append(kernel_distances(left, right, once(left)))
    subsets = torch.cat(values)
    return Estimate(subsets.mean().item(), subsets.std(correction=0).item())


def _subset(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]


# Unbiased estimate of the squared MMD, Gretton et al. 2012, eq. 3; KID, Binkowski et al. 2018, section 4.
def kernel_distances(first: Rows, second: Rows, counts: Counts) -> Float[Tensor, " _resamples"]:
    """The distances of several sets drawn from the first rows to the second rows; nothing is checked."""
    n, m, ones = len(first), len(second), once(second)
    within = (pair_sums(_kernel, (first, counts)) - _with_themselves(first, counts)) / (n * (n - 1))
    within_second = (pair_sums(_kernel, (second, ones)) - _with_themselves(second, ones)) / (m * (m - 1))
    return within + within_second - 2 * pair_sums(_kernel, (first, counts), (second, ones)) / (n * m)


# The cubic kernel (x.y / dim + 1)^3, Binkowski et al. 2018, section 4.
def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T).div_(first.shape[1]).add_(1).pow_(3)


def _with_themselves(rows: Tensor, counts: Tensor) -> Tensor:
    """The sums of the kernel of each row with itself."""
    return len(rows) * means(torch.cat([(block.square().mean(dim=1) + 1) ** 3 for block in blocks(rows)]), counts)
