"""Mean and variance of vectors, part by part. Knows numbers; not where they come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["Moments", "merge_all"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of vectors, per coordinate, in float64."""

    count: int
    mean: Float64[Tensor, " dim"]
    deviations: Float64[Tensor, " dim"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "count dim"]) -> "Moments":
        """Those of (count, dim) vectors; of none, all zero."""
        exact = vectors.double()
        mean = exact.sum(dim=0) / max(len(exact), 1)
        return cls(len(exact), mean, ((exact - mean) ** 2).sum(dim=0))

    # Chan, Golub, LeVeque 1979, eq. 2.1: sums of squares themselves would cancel where the mean is large.
    def merge(self, other: "Moments") -> "Moments":
        """Those of both sets together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        deviations = self.deviations + other.deviations + delta**2 * (self.count * other.count / count)
        return Moments(count, mean, deviations)

    @property
    def std(self) -> Float64[Tensor, " dim"]:
        """The unbiased standard deviation, 0 of a single vector."""
        return (self.deviations / max(self.count - 1, 1)).sqrt()


def merge_all(parts: Iterable[Moments], dim: int) -> Moments:
    """All parts together, merged in their order: the same parts give the same bits."""
    return reduce(Moments.merge, parts, Moments.of(torch.empty(0, dim)))
