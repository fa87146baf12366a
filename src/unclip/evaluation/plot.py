"""Line plots as SVG. Knows numbers and names; no file and no drawing library."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Line", "svg_plot"]

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 40
COLOURS = ("#2a6fdb", "#d9480f", "#2b8a3e", "#862e9c", "#7a6a00")
LOG_RANGE = 8.0
"""Positive values that differ by more than this factor get a logarithmic axis."""
MAX_MARKED = 16
"""Lines of no more points than this show each of them."""


class Line(NamedTuple):
    """One curve; points whose value is not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def points(self) -> list[tuple[float, float]]:
        """The finite points."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(x) and math.isfinite(y)]


class _Axis(NamedTuple):
    ticks: list[float]
    place: Callable[[float], float]
    """From a value to 0 (the axis's start) to 1 (its end)."""


def svg_plot(lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """The curves in one frame with axes and a legend, as an `<svg>` element; its texts take the page's colour.

    The vertical axis is logarithmic where all values are positive and the largest is over 8 times the smallest.
    """
    points = [point for line in lines for point in line.points()]
    if not points:
        return f'<svg {_VIEW}><text x="{WIDTH // 2}" y="{HEIGHT // 2}" text-anchor="middle">no values</text></svg>'
    across = _linear([x for x, _ in points])
    up = _vertical([y for _, y in points])
    curves = [_curve(line, colour, across, up) for line, colour in zip(lines, _colours(len(lines)), strict=True)]
    parts = [*_grid(across, up), *curves, *_labels(lines, x_label, y_label)]
    return f"<svg {_VIEW}>\n" + "\n".join(parts) + "\n</svg>"


_VIEW = (
    f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    'font-family="sans-serif" font-size="12" fill="currentColor" role="img"'
)


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _vertical(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    return _logarithmic(low, high) if low > 0 and high > LOG_RANGE * low else _linear(values)


def _linear(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) or 1.0
        low, high = low - margin / 2, high + margin / 2
    ticks = _round_steps(low, high)
    return _Axis(ticks, lambda value: (value - low) / (high - low))


def _round_steps(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten between `low` and `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _logarithmic(low: float, high: float) -> _Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return _Axis(inside, lambda value: math.log(value / low) / math.log(high / low))


def _x(axis: _Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: _Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _grid(across: _Axis, up: _Axis) -> Iterable[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tick in up.ticks:
        y = _y(up, tick)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.15"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
    for tick in across.ticks:
        x = _x(across, tick)
        yield f'<path d="M{x:.1f} {bottom}v4" stroke="currentColor"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:,.6g}</text>'
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="currentColor"/>'


def _curve(line: Line, colour: str, across: _Axis, up: _Axis) -> str:
    places = [(_x(across, x), _y(up, y)) for x, y in line.points()]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    curve = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    if len(places) > MAX_MARKED:
        return curve
    return curve + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places)


def _labels(lines: Sequence[Line], x_label: str, y_label: str) -> Iterable[str]:
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'
    yield f'<text x="4" y="16">{escape(y_label)}</text>'
    x = float(LEFT + 60)
    for line, colour in zip(lines, _colours(len(lines)), strict=True):
        yield f'<path d="M{x:.0f} 12h18" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{x + 24:.0f}" y="16">{escape(line.name)}</text>'
        x += 48 + 6.5 * len(line.name)
