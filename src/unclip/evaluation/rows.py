"""Sets of features as rows: what is refused, and how they are read in blocks. Knows numbers; no metric."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError

__all__ = ["BLOCK", "Rows", "blocks", "check_pair", "check_rows", "double"]

BLOCK = 2048
"""Rows that are read at a time: a block of 2048 features, and one of all its pairs, take 32 MiB in float64."""

Rows = Float[Tensor, "_rows _dim"]
"""One set of features; the sets of a metric may have any sizes, and a misfit is the user's error, not a shape's."""


def check_rows(rows: Rows, least: int, what: str) -> None:
    """Raise `InputError` for fewer than `least` rows, for none that have numbers, and for NaN or infinity."""
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"{what} are features of shape {tuple(rows.shape)}; give rows, (pictures, numbers of each).")
    if len(rows) < least:
        raise InputError(f"{len(rows)} rows of {what} are too few for this figure; give at least {least}.")
    finite = torch.cat([block.isfinite().all(dim=1) for block in rows.split(BLOCK)])
    if not finite.all():
        bad = (~finite).nonzero().flatten()
        raise InputError(
            f"{len(bad)} of {len(rows)} rows of {what} hold NaN or infinity (the first is row {bad[0].item()}); "
            "check the pictures and the network that made them."
        )


def check_pair(first: Rows, second: Rows, least: int, names: tuple[str, str] = ("the first", "the second")) -> None:
    """Raise `InputError` where `check_rows` does for either set, and for rows of different lengths."""
    check_rows(first, least, names[0])
    check_rows(second, least, names[1])
    check_dims(first.shape[1], second.shape[1])


def check_dims(first: int, second: int) -> None:
    """Raise `InputError` where features of two sets differ in size."""
    if first != second:
        raise InputError(f"the sets have features of {first} and of {second} numbers; use one network for both.")


def double(rows: Tensor) -> Tensor:
    """The rows in float64, on their device where it has that format and else on the CPU."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()


def blocks(rows: Rows, size: int = BLOCK) -> Iterator[Tensor]:
    """The rows in order, `size` at a time, in float64."""
    return (double(block) for block in rows.split(size))
