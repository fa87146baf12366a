"""Precision, recall, density and coverage by nearest neighbours."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.features import BLOCK, Counts, Rows, blocks, check_pair, means, once, squared_distances

DEFAULT_K = 5
NEARLY = 1 - 1e-9
"""A squared distance over this share of a squared radius is on the border up to rounding, and so outside."""


class ManifoldMetrics(NamedTuple):
    """Shares of pictures in [0, 1]; the density has no upper bound and is 1 for equal sets."""

    precision: float
    """Drawn pictures within the reach of a real one."""
    recall: float
    """Real pictures within the reach of a drawn one."""
    density: float
    """Real pictures within whose reach a drawn one is, over k."""
    coverage: float
    """Real pictures within whose reach there is a drawn one."""


def manifold_metrics(real: Rows, drawn: Rows, k: int = DEFAULT_K) -> ManifoldMetrics:
    """Compute the four figures; a picture's reach is the distance to its k-th neighbour in its set, border excluded.

    Distances are taken in float64, in blocks. Equal sets without repeated rows have 1 in all four. Raises `InputError`
    for fewer than k + 1 rows, for NaN or infinite features, and for features of different sizes.
    """
    if k < 1:
        raise InputError(f"k={k} names no neighbour; use at least 1, such as {DEFAULT_K}.")
    check_pair(real, drawn, k + 1, ("the real features", "the drawn features"))
    return ManifoldMetrics(*manifolds(drawn, real, once(drawn), k).flatten().tolist())


# Kynkäänniemi et al. 2019, eq. 1-2; density and coverage, Naeem et al. 2020, section 3.
def manifolds(drawn: Rows, real: Rows, counts: Counts, k: int = DEFAULT_K) -> Float[Tensor, "figures _resamples"]:
    """Compute the figures of several sets drawn from the drawn rows, in the order of `ManifoldMetrics`, without checks.

    A drawn picture keeps the reach it has among all rows: repeated rows would have none.
    """
    # Rows around zero: squared distances are differences of squared lengths.
    centre = torch.stack([block.sum(dim=0) for block in blocks(real)]).sum(dim=0) / len(real)
    reach, drawn_reach = _squared_reach(real, k, centre), _squared_reach(drawn, k, centre).split(BLOCK)
    num_within = [torch.zeros_like(part) for part in drawn_reach]
    num_recalled = torch.zeros(counts.shape[1], dtype=torch.int64)
    num_covered = num_recalled.clone()
    for block, limit in zip(blocks(real), reach.split(BLOCK), strict=True):
        recalled, covered = torch.zeros(2, len(block), counts.shape[1], device=block.device, dtype=torch.bool)
        for place, (other, times) in enumerate(zip(blocks(drawn), blocks(counts), strict=True)):
            squared, is_drawn = squared_distances(block - centre, other - centre), (times > 0).float()
            within = squared < NEARLY * limit[:, None]
            num_within[place] += within.sum(dim=0)
            covered |= within.float() @ is_drawn > 0
            recalled |= (squared < NEARLY * drawn_reach[place]).float() @ is_drawn > 0
        num_recalled += recalled.sum(dim=0).cpu()
        num_covered += covered.sum(dim=0).cpu()
    num_reaching = torch.cat(num_within)
    precision, density = means((num_reaching > 0).double(), counts), means(num_reaching, counts) / k
    recall, coverage = num_recalled.double() / len(real), num_covered.double() / len(real)
    return torch.stack([precision, recall, density, coverage])


def _squared_reach(rows: Tensor, k: int, centre: Tensor) -> Tensor:
    """Compute the squared distance from each row to the k-th nearest of the others."""
    reach = []
    for place, queries in enumerate(blocks(rows)):
        nearest = queries.new_full((len(queries), k), torch.inf)
        for number, block in enumerate(blocks(rows)):
            squared = squared_distances(queries - centre, block - centre)
            if number == place:
                squared.fill_diagonal_(torch.inf)
            nearest = torch.cat([nearest, squared], dim=1).topk(k, dim=1, largest=False).values
        reach.append(nearest[:, -1])
    return torch.cat(reach)
