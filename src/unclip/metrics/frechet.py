"""The Fréchet distance of two sets of features. Knows rows of numbers; no picture and no network."""

from typing import NamedTuple

import torch
from torch import Tensor

from unclip.metrics.features import Rows, check_dims, check_rows
from unclip.metrics.gaussian import Gaussian

MIN_ROWS = 2


class _Rooted(NamedTuple):
    mean: Tensor
    root: Tensor
    """(dim, rank); the covariance is root @ root^T."""


# Distance of two normal distributions, Dowson and Landau 1982; of features as in FID (Heusel et al. 2017, eq. 6).
def frechet_distance(first: Rows | Gaussian, second: Rows | Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the means and unbiased covariances, in float64.

    A set is given as rows or as what is known of them. With C = R R^T, the trace of the root of C1 C2 is the sum of the
    singular values of R1^T R2, which is as exact for covariances without full rank as for others. Fewer rows than
    dimensions cost their number, not the dimensions; but the distance of few rows is far too large, so compare only
    distances of equally many. Equal sets have 0 to rounding. Raises `InputError` for fewer than 2 rows, for NaN or
    infinite features, and for features of different sizes.
    """
    a, b = _rooted(first, "the first features"), _rooted(second, "the second features")
    check_dims(len(a.mean), len(b.mean))
    cross = torch.linalg.svdvals(a.root.T @ b.root).sum()
    distance = (a.mean - b.mean).square().sum() + a.root.square().sum() + b.root.square().sum() - 2 * cross
    return max(distance.item(), 0.0)


def _rooted(rows: Rows | Gaussian, what: str) -> _Rooted:
    if isinstance(rows, Gaussian):
        return _Rooted(rows.mean, _root(rows.covariance))
    check_rows(rows, MIN_ROWS, what)
    if len(rows) > rows.shape[1]:
        known = Gaussian.of(rows)
        return _Rooted(known.mean, _root(known.covariance))
    values = rows.cpu().double()
    mean = values.mean(dim=0)
    return _Rooted(mean, (values - mean).T / (len(rows) - 1) ** 0.5)


def _root(covariance: Tensor) -> Tensor:
    """A matrix R with R R^T = covariance: triangular, or without the directions in which there is nothing."""
    triangular, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return triangular
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding leaves about 1e-16 of the largest where there is nothing, and its root would be 1e-8.
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()
