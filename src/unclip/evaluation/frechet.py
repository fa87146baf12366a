"""The Fréchet distance of two sets of features. Knows rows of numbers; no picture and no network."""

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError

__all__ = ["frechet_distance"]

MIN_ROWS = 2


# Distance of two normal distributions, Dowson and Landau 1982; of features as in FID (Heusel et al. 2017, eq. 6).
def frechet_distance(first: Float[Tensor, "_rows dim"], second: Float[Tensor, "_others dim"]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the rows' means and covariances, in float64.

    With fewer rows than dimensions it is far too large, so compare only distances of equally many rows. Raises
    `InputError` for fewer than 2 rows.
    """
    if min(len(first), len(second)) < MIN_ROWS:
        raise InputError(f"{len(first)} and {len(second)} rows have no covariance; give at least {MIN_ROWS} of both.")
    means = [rows.double().mean(dim=0) for rows in (first, second)]
    root, other = _root(_covariance(first)), _covariance(second)
    # C1^(1/2) C2 C1^(1/2) is symmetric and has the eigenvalues of C1 C2.
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    distance = (means[0] - means[1]).square().sum() + root.square().sum() + other.trace() - 2 * cross
    return max(distance.item(), 0.0)


def _covariance(rows: Tensor) -> Tensor:
    return torch.cov(rows.double().T).reshape(rows.shape[1], rows.shape[1])


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
