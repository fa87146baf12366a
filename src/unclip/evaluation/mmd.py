"""The maximum mean discrepancy under a Gaussian kernel (CMMD). Knows rows of numbers; no picture and no network."""

from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.rows import Counts, Rows, check_pair, once, pair_sums, squared_distances

__all__ = ["mmd", "mmds"]

SIGMA, SCALE = 10.0, 1000.0


def mmd(first: Rows, second: Rows, sigma: float = SIGMA, scale: float = SCALE) -> float:
    """`scale` times the squared MMD under exp(-|x - y|^2 / (2 sigma^2)), over all pairs, in float64.

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
    """The distances of several sets drawn from the first rows to the second rows; nothing is checked."""

    # The kernel less 1: in the distance the ones cancel, and what is left keeps its digits.
    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return squared_distances(left, right).div_(-2 * sigma**2).expm1_()

    n, m, ones = len(first), len(second), once(second)
    within = pair_sums(kernel, (first, counts)) / n**2 + pair_sums(kernel, (second, ones)) / m**2
    return scale * (within - 2 * pair_sums(kernel, (first, counts), (second, ones)) / (n * m)).clamp(min=0)
