"""A denoiser that works on a large picture tile by tile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.schedules import NoiseSchedule
from unclip.errors import InputError
from unclip.shapes import Images

Region: TypeAlias = tuple[slice, slice]
"""Rows and columns of a picture."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut. All in pixels; raises `InputError` if the numbers do not fit each other."""

    tile_size: int
    """Longest side of a tile without its halo; tiles are as equal as the picture allows."""
    halo: int
    """Pixels of context beyond each side that is not the picture's. Neighbours fade into each other over as many,
    half of them on each side of the cut: the outer half of the halo is context only."""
    multiple: int = 1
    """Cuts lie on multiples of this, as the network's grid does."""

    def __post_init__(self) -> None:
        if self.tile_size % self.multiple or self.halo % self.multiple or not 0 <= 2 * self.halo <= self.tile_size:
            raise InputError(
                f"tile_size={self.tile_size} and halo={self.halo} must be multiples of {self.multiple}, "
                "and the halo at most half a tile."
            )


def tiled(denoiser_of: Callable[[Region], Denoiser], schedule: NoiseSchedule, tiling: Tiling) -> Denoiser:
    """Make a denoiser of whole pictures that calls `denoiser_of(region)` for each tile, in the memory of one tile.

    It equals one pass over the picture if no pixel of that depends on others more than half a halo away; otherwise
    tiles differ, and fade into each other. All the denoisers follow `schedule`.
    """
    return TiledDenoiser(denoiser_of, schedule, tiling)


@dataclass(frozen=True, eq=False)
class TiledDenoiser:
    """Denoisers of the parts of a picture; made by `tiled`."""

    denoiser_of: Callable[[Region], Denoiser]
    schedule: NoiseSchedule
    tiling: Tiling

    def __call__(self, x_t: Images, t: Float[Tensor, "*times"]) -> Prediction:
        rows, columns = (list(spans(length, self.tiling)) for length in x_t.shape[2:])
        if len(rows) == len(columns) == 1:
            return self.denoiser_of((rows[0].seen, columns[0].seen))(x_t, t)
        whole: list[Tensor | None] = []
        for row in rows:
            for column in columns:
                region = row.seen, column.seen
                part = self.denoiser_of(region)(x_t[(..., *region)], t)
                whole = whole or [None if value is None else value.new_zeros(x_t.shape) for value in part]
                weight = row.weight[:, None] * column.weight
                for canvas, value in zip(whole, part, strict=True):
                    if canvas is not None and value is not None:
                        canvas[(..., *region)] += weight.to(value) * value
        return Prediction._make(whole)


class Span(NamedTuple):
    """One tile's part of an axis."""

    seen: slice
    """The pixels that the tile's denoiser reads."""
    weight: Float[Tensor, " seen"]
    """How much each of them counts; the weights of all spans at a pixel add up to one."""


def spans(length: int, tiling: Tiling) -> Iterator[Span]:
    """Cut an axis of `length` pixels; raises `InputError` unless that is a multiple of the tiling's."""
    cells, rest = divmod(length, tiling.multiple)
    count = -(-length // tiling.tile_size)
    if rest and count > 1:
        raise InputError(f"a side of {length} pixels cannot be tiled: it must be a multiple of {tiling.multiple}.")
    for index in range(count):
        start, stop = (edge * cells // count * tiling.multiple for edge in (index, index + 1))
        stop = length if index == count - 1 else stop
        first, last = max(start - tiling.halo, 0), min(stop + tiling.halo, length)
        centre = torch.arange(first, last) + 0.5
        rise = _ramp(centre - start, tiling.halo) if start > 0 else 1.0
        fall = _ramp(stop - centre, tiling.halo) if stop < length else 1.0
        yield Span(slice(first, last), rise * fall * torch.ones(last - first))


def _ramp(distance: Tensor, width: int) -> Tensor:
    """Rise from 0 to 1 over `width` pixels around distance 0."""
    return (distance / max(width, 1) + 0.5).clamp(0.0, 1.0)
