"""Mean and covariance of features, gathered block by block. Knows rows of numbers; no picture and no network."""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.features import Rows, blocks, check_dims, check_rows

MERGED = 2048
"""Rows between two merges, each of which reads all products of features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian:
    """What a Fréchet distance needs to know of a set of features, on the CPU; its size does not grow with the set.

    Sets are gathered in parts, `Gaussian.of(part).merge(...)`, in any order: the result differs by rounding alone.
    """

    count: int
    """Rows seen."""
    mean: Float[Tensor, " dim"]
    """float64."""
    deviations: Float[Tensor, "dim dim"]
    """The sum over rows of (row - mean)(row - mean)^T, float64."""

    @classmethod
    def of(cls, rows: Rows) -> "Gaussian":
        """That of at least one row. Raises `InputError` for none, and for NaN or infinite features."""
        check_rows(rows, 1, "the features")
        return reduce(cls.merge, map(_of_block, blocks(rows, MERGED)))

    @classmethod
    def from_moments(cls, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"], count: int) -> "Gaussian":
        """That of published statistics: `covariance` is the unbiased one of `count` rows."""
        return cls(count=count, mean=mean.cpu().double(), deviations=covariance.cpu().double() * (count - 1))

    # Pairwise update of a mean and of a sum of squared deviations, Chan et al. 1979, eq. 2.1.
    def merge(self, other: "Gaussian") -> "Gaussian":
        """That of both sets together. Raises `InputError` for features of another size."""
        check_dims(len(self.mean), len(other.mean))
        count = self.count + other.count
        shift = other.mean - self.mean
        return Gaussian(
            count=count,
            mean=self.mean + shift * (other.count / count),
            deviations=self.deviations
            + other.deviations
            + torch.outer(shift, shift) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """The unbiased covariance. Raises `InputError` for a single row."""
        if self.count < 2:
            raise InputError(f"{self.count} row has no covariance; give at least 2.")
        return self.deviations / (self.count - 1)


def _of_block(rows: Tensor) -> Gaussian:
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Gaussian(count=len(rows), mean=mean.cpu(), deviations=(centred.T @ centred).cpu())
