"""The maximum mean discrepancy under a Gaussian kernel (CMMD). Knows rows of numbers; no picture and no network."""

from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.rows import Rows, blocks, check_pair

__all__ = ["mmd"]


# CMMD, Jayasumana et al. 2024, eq. 3; the estimate keeps a row's pair with itself, as the authors' code does.
def mmd(first: Rows, second: Rows, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """`scale` times the squared MMD under exp(-|x - y|^2 / (2 sigma^2)), over all pairs, in float64.

    CMMD is this of CLIP embeddings of length 1. Equal sets have 0; two sets of n rows of one distribution have about
    2/n times `scale` times the gap of the kernel between a row with itself and with another. Raises `InputError` for
    no rows, for NaN or infinite features, for features of different sizes and for a `sigma` that is not positive.
    """
    check_pair(first, second, 1)
    if not sigma > 0:
        raise InputError(f"sigma={sigma} is no width of a kernel; use a positive number, such as 10.")
    squared = _mean(first, first, sigma) + _mean(second, second, sigma) - 2 * _mean(first, second, sigma)
    return scale * max(squared, 0.0)


def _mean(first: Tensor, second: Tensor, sigma: float) -> float:
    total = sum(_gaps(a, b, sigma).sum().item() for a in blocks(first) for b in blocks(second))
    return total / (len(first) * len(second))


def _gaps(first: Tensor, second: Tensor, sigma: float) -> Tensor:
    """The kernel less 1: in the distance the ones cancel, and what is left keeps its digits."""
    lengths = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
    squared = (lengths - 2 * first @ second.T).clamp(min=0)
    return (squared / (-2 * sigma**2)).expm1()
