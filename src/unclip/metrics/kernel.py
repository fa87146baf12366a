"""Kernel distances: KID with a polynomial kernel, CMMD with a Gaussian one."""

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.estimates import Estimate
from unclip.metrics.features import Counts, Rows, blocks, check_pair, means, once, pair_sums, squared_distances
from unclip.runtime import seeded

MIN_ROWS = 2


def kernel_distance(first: Rows, second: Rows) -> float:
    """Compute the unbiased squared MMD under the cubic kernel, over all pairs, in float64, without random subsets.

    Its mean over two sets of one distribution is 0, so it may be negative. A set and itself have -2/n of the gap
    between the kernel's means on rows with themselves and with others.
    Raises `InputError` for fewer than 2 rows, for NaN or infinite features, and for features of different sizes.
    """
    check_pair(first, second, MIN_ROWS)
    return kernel_distances(first, second, once(first)).item()


def kernel_distance_of_subsets(
    first: Rows, second: Rows, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """Compute KID as it is published: mean and deviation over random subsets without repeated rows.

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
        left, right = (
            rows[torch.randperm(len(rows), generator=generator)[:subset_size].to(rows.device)]
            for rows in (first, second)
        )
        values.append(kernel_distances(left, right, once(left)))
    subsets = torch.cat(values)
    return Estimate(subsets.mean().item(), subsets.std(correction=0).item())


# Unbiased estimate of the squared MMD, Gretton et al. 2012, eq. 3; KID, Binkowski et al. 2018, section 4.
def kernel_distances(first: Rows, second: Rows, counts: Counts) -> Float[Tensor, " _resamples"]:
    """Compute the distances of several sets drawn from the first rows to the second rows, without checks."""
    n, m, ones = len(first), len(second), once(second)
    within = (pair_sums(_kernel, (first, counts)) - _with_themselves(first, counts)) / (n * (n - 1))
    within_second = (pair_sums(_kernel, (second, ones)) - _with_themselves(second, ones)) / (m * (m - 1))
    return within + within_second - 2 * pair_sums(_kernel, (first, counts), (second, ones)) / (n * m)


# The cubic kernel (x.y / dim + 1)^3, Binkowski et al. 2018, section 4.
def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T).div_(first.shape[1]).add_(1).pow_(3)


def _with_themselves(rows: Tensor, counts: Tensor) -> Tensor:
    """Sum the kernel of each row with itself."""
    return len(rows) * means(torch.cat([(block.square().mean(dim=1) + 1) ** 3 for block in blocks(rows)]), counts)


SIGMA, SCALE = 10.0, 1000.0


def mmd(first: Rows, second: Rows, sigma: float = SIGMA, scale: float = SCALE) -> float:
    """Compute `scale` times the squared MMD under exp(-|x - y|^2 / (2 sigma^2)), over all pairs, in float64.

    CMMD is this of CLIP embeddings of length 1. Pairs of a row with itself count, as in the published code: equal sets
    have 0, and sets of n and m rows of one distribution have on average 1/n + 1/m times `scale` times the kernel's mean
    gap between such pairs and others. Raises `InputError` for no rows, for NaN or infinite features, for features of
    different sizes and for a `sigma` that is not positive.
    """
    check_pair(first, second, 1)
    if not sigma > 0:
        raise InputError(f"sigma={sigma} is no width of a kernel; use a positive number, such as 10.")
    return mmds(first, second, once(first), sigma, scale).item()


# Biased estimate of the squared MMD, Gretton et al. 2012, eq. 5; CMMD, Jayasumana et al. 2024, section 4.
def mmds(
    first: Rows, second: Rows, counts: Counts, sigma: float = SIGMA, scale: float = SCALE
) -> Float[Tensor, " _resamples"]:
    """Compute the distances of several sets drawn from the first rows to the second rows, without checks."""

    # The kernel less 1: in the distance the ones cancel, and what is left keeps its digits.
    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return squared_distances(left, right).div_(-2 * sigma**2).expm1_()

    n, m, ones = len(first), len(second), once(second)
    within = pair_sums(kernel, (first, counts)) / n**2 + pair_sums(kernel, (second, ones)) / m**2
    return scale * (within - 2 * pair_sums(kernel, (first, counts), (second, ones)) / (n * m)).clamp(min=0)
