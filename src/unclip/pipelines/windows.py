"""Where to paint: a window around what is missing, or windows over a canvas. Knows whole numbers; no pixels."""

import itertools
import math
from fractions import Fraction
from typing import TypeAlias

__all__ = ["Box", "window_around", "windows_outward"]

Box: TypeAlias = tuple[int, int, int, int]
"""(left, top, right, bottom), the last two exclusive."""

# Half as wide again as what is missing: room to see what it has to fit to.
CONTEXT = Fraction(3, 2)


def window_around(missing: Box, picture: tuple[int, int], drawn: tuple[int, int]) -> Box:
    """The window to paint `missing` in, of the shape of `drawn`; all sizes are (width, height).

    It is `CONTEXT` times as large as what is missing, but no smaller than `drawn` where the picture has room for that,
    and no larger than it takes to hold the picture; so a picture of the size `drawn` is its own window. It lies inside
    the picture on each axis that is long enough, and sticks out on both sides of one that is not.
    """
    spans = [(max(missing[axis] - 1, 0), min(missing[axis + 2] + 1, picture[axis])) for axis in (0, 1)]
    needed = max(Fraction(stop - start, side) for (start, stop), side in zip(spans, drawn, strict=True))
    fits = [Fraction(length, side) for length, side in zip(picture, drawn, strict=True)]
    scale = min(max(CONTEXT * needed, min(*fits, Fraction(1))), max(fits))
    width, height = (math.ceil(scale * side) for side in drawn)
    left, top = (
        _place(*span, side, length) for span, side, length in zip(spans, (width, height), picture, strict=True)
    )
    return left, top, left + width, top + height


def windows_outward(canvas: tuple[int, int], known: Box, side: int) -> list[Box]:
    """Squares inside the canvas that cover it, from `known` outward.

    Where `known` is no shorter than `side`, half of each or more is known or lies in earlier ones. `side` is no longer
    than the canvas's shorter side.
    """
    across, down = (_starts(canvas[axis], known[axis], known[axis + 2], side) for axis in (0, 1))
    order = sorted(
        (right + below, top, left) for (left, right), (top, below) in itertools.product(across.items(), down.items())
    )
    return [(left, top, left + side, top + side) for _, top, left in order]


def _place(start: int, stop: int, side: int, length: int) -> int:
    """Where a window of `side` begins that has start to stop in its middle, or the whole axis if that is shorter."""
    if side >= length:
        return (length - side) // 2
    return min(max((start + stop - side) // 2, 0), length - side)


def _starts(length: int, first: int, last: int, side: int) -> dict[int, int]:
    """Where windows begin on one axis, and after how many others each has its turn; first to last is known."""
    span, middle, step = last - first, _place(first, last, side, length), max(side // 2, 1)
    leftmost, rightmost = first, last - side
    if 2 * span < side:
        leftmost = rightmost = middle
    right, left = _even(rightmost, length - side, step), _even(leftmost, 0, step)
    turns = {min(max(start, 0), length - side): turn for chain in (right, left) for turn, start in enumerate(chain, 1)}
    if span >= side:
        return turns | dict.fromkeys([first, *_even(first, last - side, step)], 0)
    # Around a picture somewhat smaller than itself a window has only slivers to paint: better the next ones paint them.
    return {middle: 0 if 2 * span < side else 2} | turns


def _even(start: int, stop: int, step: int) -> list[int]:
    """The way from `start`, which is left out, to `stop` in even steps of `step` or less."""
    count = math.ceil(abs(stop - start) / step)
    return [start + (stop - start) * index // count for index in range(1, count + 1)]
