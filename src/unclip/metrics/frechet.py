"""The Fréchet distance of two sets of features, given as rows or as their mean and covariance."""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.features import Rows, blocks, check_dims, check_rows

MIN_ROWS = 2
MERGED = 2048
"""Rows between two merges, each of which reads all products of features."""


# Distance of two normal distributions, Dowson and Landau 1982; of features as in FID (Heusel et al. 2017, eq. 6).
def frechet_distance(first: "Rows | Gaussian", second: "Rows | Gaussian") -> float:
    """Compute |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the means and unbiased covariances, in float64.

    With C = R R^T, the trace of the root of C1 C2 is the sum of the singular values of R1^T R2, which is as exact for
    covariances without full rank as for others. Fewer rows than dimensions cost their number, not the dimensions; but
    the distance of few rows is far too large, so compare only distances of equally many. Equal sets have 0 to rounding.
    Raises `InputError` for fewer than 2 rows, for NaN or infinite features, and for features of different sizes.
    """
    mean, root = _rooted(first, "the first features")
    other_mean, other_root = _rooted(second, "the second features")
    check_dims(len(mean), len(other_mean))
    cross = torch.linalg.svdvals(root.T @ other_root).sum()
    distance = (mean - other_mean).square().sum() + root.square().sum() + other_root.square().sum() - 2 * cross
    return max(distance.item(), 0.0)


def _rooted(rows: "Rows | Gaussian", what: str) -> tuple[Tensor, Tensor]:
    """Return the mean (dim) and a root (dim, rank) with root @ root^T = covariance."""
    if isinstance(rows, Gaussian):
        return rows.mean, _root(rows.covariance)
    check_rows(rows, MIN_ROWS, what)
    if len(rows) > rows.shape[1]:
        return _rooted(Gaussian.of(rows), what)
    values = rows.cpu().double()
    mean = values.mean(dim=0)
    return mean, (values - mean).T / (len(rows) - 1) ** 0.5


def _root(covariance: Tensor) -> Tensor:
    """Return a matrix R with R R^T = covariance: triangular, or without the directions of no variance."""
    triangular, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return triangular
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding leaves about 1e-16 of the largest where there is no variance, and its root would be 1e-8.
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features, on the CPU; their size does not grow with the set.

    Sets are gathered in parts, `Gaussian.of(part).merge(...)`, in any order: the result differs by rounding alone.
    """

    count: int
    """Number of rows."""
    mean: Float[Tensor, " dim"]
    """float64."""
    deviations: Float[Tensor, "dim dim"]
    """The sum over rows of (row - mean)(row - mean)^T, float64."""

    @classmethod
    def of(cls, rows: Rows) -> "Gaussian":
        """Compute it of at least one row; raises `InputError` for none, and for NaN or infinite features."""
        check_rows(rows, 1, "the features")
        return reduce(cls.merge, map(_of_block, blocks(rows, MERGED)))

    @classmethod
    def from_moments(cls, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"], count: int) -> "Gaussian":
        """Convert published statistics, where `covariance` is the unbiased one of `count` rows."""
        return cls(count=count, mean=mean.cpu().double(), deviations=covariance.cpu().double() * (count - 1))

    # Pairwise update of a mean and of a sum of squared deviations, Chan et al. 1979, eq. 2.1.
    def merge(self, other: "Gaussian") -> "Gaussian":
        """Join two sets; raises `InputError` for features of another size."""
        check_dims(len(self.mean), len(other.mean))
        count, shift = self.count + other.count, other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / count)
        return Gaussian(
            count=count,
            mean=self.mean + shift * (other.count / count),
            deviations=self.deviations + other.deviations + between,
        )

    @property
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """The unbiased covariance; raises `InputError` for a single row."""
        if self.count < MIN_ROWS:
            raise InputError(f"{self.count} row has no covariance; give at least {MIN_ROWS}.")
        return self.deviations / (self.count - 1)


def _of_block(rows: Tensor) -> Gaussian:
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Gaussian(count=len(rows), mean=mean.cpu(), deviations=(centred.T @ centred).cpu())
