"""Precision, recall, density and coverage by nearest neighbours. Knows rows of numbers; no picture and no network."""

from typing import NamedTuple

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.rows import BLOCK, Rows, blocks, check_pair, double

__all__ = ["ManifoldMetrics", "manifold_metrics"]

NEARLY = 1 - 1e-9
"""A squared distance over this share of a squared radius is on the border up to rounding, and so outside."""


class ManifoldMetrics(NamedTuple):
    """Shares of pictures in [0, 1], but for the density, which has no upper bound and is 1 for equal sets."""

    precision: float
    """Drawn pictures within the reach of a real one."""
    recall: float
    """Real pictures within the reach of a drawn one."""
    density: float
    """Real pictures within whose reach a drawn one is, over k."""
    coverage: float
    """Real pictures within whose reach there is a drawn one."""


# Kynkäänniemi et al. 2019, eq. 1-3; density and coverage, Naeem et al. 2020, eq. 4-5.
def manifold_metrics(real: Rows, drawn: Rows, k: int = 5) -> ManifoldMetrics:
    """The four figures, where a picture's reach is the distance to its k-th neighbour in its own set, border excluded.

    Distances are taken in float64, in blocks. Equal sets without repeated rows have 1 in all four. Raises `InputError`
    for fewer than k + 1 rows, for NaN or infinite features, and for features of different sizes.
    """
    if k < 1:
        raise InputError(f"k={k} names no neighbour; use at least 1, such as 5.")
    check_pair(real, drawn, k + 1, ("the real", "the drawn"))
    # Rows around zero: squared distances are differences of squared lengths.
    centre = double(real).mean(dim=0) if len(real) <= BLOCK else sum(b.sum(dim=0) for b in blocks(real)) / len(real)
    reach, reach_of_drawn = _squared_reach(real, k, centre), _squared_reach(drawn, k, centre).split(BLOCK)
    num_within = [torch.zeros_like(part, dtype=torch.int64) for part in reach_of_drawn]
    num_recalled = num_covered = 0
    for real_block, limit in zip(blocks(real), reach.split(BLOCK), strict=True):
        recalled = covered = torch.zeros(len(real_block), dtype=torch.bool, device=real_block.device)
        for number, drawn_block in enumerate(blocks(drawn)):
            squared = _squared_distances(real_block - centre, drawn_block - centre)
            within = squared < NEARLY * limit[:, None]
            num_within[number] += within.sum(dim=0)
            covered = covered | within.any(dim=1)
            recalled = recalled | (squared < NEARLY * reach_of_drawn[number]).any(dim=1)
        num_recalled, num_covered = num_recalled + int(recalled.sum()), num_covered + int(covered.sum())
    counts = torch.cat(num_within)
    return ManifoldMetrics(
        precision=int((counts > 0).sum()) / len(drawn),
        recall=num_recalled / len(real),
        density=int(counts.sum()) / (k * len(drawn)),
        coverage=num_covered / len(real),
    )


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    lengths = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
    return (lengths - 2 * first @ second.T).clamp(min=0)


def _squared_reach(rows: Tensor, k: int, centre: Tensor) -> Tensor:
    """The squared distance from each row to the k-th nearest of the others."""
    return torch.cat([_nearest(rows, block - centre, place, k, centre) for place, block in enumerate(blocks(rows))])


def _nearest(rows: Tensor, own: Tensor, place: int, k: int, centre: Tensor) -> Tensor:
    nearest = own.new_full((len(own), k), torch.inf)
    for number, block in enumerate(blocks(rows)):
        squared = _squared_distances(own, block - centre)
        if number == place:
            squared.fill_diagonal_(torch.inf)
        nearest = torch.cat([nearest, squared], dim=1).topk(k, dim=1, largest=False).values
    return nearest[:, -1]
