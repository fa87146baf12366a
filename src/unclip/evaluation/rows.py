"""Sets of features as rows: what is refused, and how they are read in blocks. Knows numbers; no metric."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int16
from torch import Tensor

from unclip.errors import InputError

__all__ = [
    "BLOCK",
    "Counts",
    "Rows",
    "blocks",
    "check_dims",
    "check_pair",
    "check_rows",
    "double",
    "means",
    "once",
    "pair_sums",
]

BLOCK = 512
"""Rows that are read at a time: caches hold all pairs of two blocks, 2 MiB in float64; larger blocks are slower."""

Rows = Float[Tensor, "_rows _dim"]
"""One set of features; the sets of a metric may have any sizes, and a misfit is the user's error, not a shape's."""

Counts = Int16[Tensor, "_rows _resamples"]
"""How often each row stands in each of several sets that are drawn from the rows."""


def check_rows(rows: Rows, least: int, what: str) -> None:
    """Raise `InputError` for fewer than `least` rows, for rows without numbers, and for NaN or infinity."""
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"{what} have shape {tuple(rows.shape)}; give rows of numbers, (pictures, features).")
    if len(rows) < least:
        raise InputError(f"{what} have {len(rows)} rows, too few for this figure; give at least {least}.")
    finite = torch.cat([block.isfinite().all(dim=1) for block in rows.split(BLOCK)])
    if not finite.all():
        bad = (~finite).nonzero().flatten()
        raise InputError(
            f"{what} hold NaN or infinity in {len(bad)} of {len(rows)} rows (the first is row {bad[0].item()}); "
            "check the pictures and the network that made them."
        )


def check_pair(
    first: Rows, second: Rows, least: int, names: tuple[str, str] = ("the first features", "the second features")
) -> None:
    """Raise `InputError` where `check_rows` does for either set, and for rows of different lengths or devices."""
    check_rows(first, least, names[0])
    check_rows(second, least, names[1])
    if first.device != second.device:
        raise InputError(
            f"{names[0]} are on {first.device} and {names[1]} on {second.device}; move both to one device."
        )
    check_dims(first.shape[1], second.shape[1])


def check_dims(first: int, second: int) -> None:
    """Raise `InputError` where the rows of two sets differ in length."""
    if first != second:
        raise InputError(f"rows of {first} and of {second} features cannot be compared; use one network for both sets.")


def double(rows: Tensor) -> Tensor:
    """The rows in float64, on their device where it has that format and else on the CPU."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()


def blocks(rows: Tensor, size: int = BLOCK) -> Iterator[Tensor]:
    """The rows in order, `size` at a time, in float64."""
    return (double(block) for block in rows.split(size))


def once(rows: Rows) -> Counts:
    """The counts of the set that has each row once."""
    return torch.ones(len(rows), 1, dtype=torch.int16, device=rows.device)


def means(values: Float[Tensor, " _rows"], counts: Counts) -> Float[Tensor, " _resamples"]:
    """The mean of one value per row over each of several sets, in float64."""
    parts = zip(blocks(values), blocks(counts), strict=True)
    return torch.stack([part @ times for part, times in parts]).sum(dim=0).cpu() / len(values)


def squared_distances(
    first: Float[Tensor, "rows dim"], second: Float[Tensor, "others dim"]
) -> Float[Tensor, "rows others"]:
    """Those of all pairs, never negative; as differences of squared lengths they lose digits far from zero."""
    lengths = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
    return lengths.addmm_(first, second.T, alpha=-2).clamp_(min=0)


def pair_sums(
    kernel: Callable[[Tensor, Tensor], Tensor], first: tuple[Rows, Counts], second: tuple[Rows, Counts] | None = None
) -> Float[Tensor, " _resamples"]:
    """The sums of a symmetric kernel over all pairs of a row of the first sets and one of the second, in float64.

    Each set is rows and their counts; without a second the first is paired with itself, at half the cost.
    """
    rows, counts = second or first
    total = torch.zeros(1, dtype=torch.float64)
    for place, (left, times) in enumerate(zip(blocks(first[0]), blocks(first[1]), strict=True)):
        for other, (right, other_times) in enumerate(zip(blocks(rows), blocks(counts), strict=True)):
            if second is None and other < place:
                continue
            weight = 2 if second is None and other > place else 1
            total = total + weight * (times * (kernel(left, right) @ other_times)).sum(dim=0).cpu()
    return total
