"""HTML pages with tables, pictures and line plots."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unclip.errors import InputError
from unclip.files import atomic_write

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 40
LETTER, ROW = 6.5, 18
"""Width of a letter on average, and height of a row of the legend."""
COLOURS = ("#2a6fdb", "#d9480f", "#2b8a3e", "#a347ba", "#7a6a00")
LOG_RANGE = 8.0
"""Positive values that differ by more than this factor get a logarithmic axis."""
MAX_MARKED = 16
"""Lines of no more points than this show each of them."""


class Line(NamedTuple):
    """One curve, its points joined in their order; those whose value is not finite are left out."""

    name: str
    """What the legend says; "" is not in it."""
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    """A text beside each point; none where this is empty."""
    intervals: Sequence[tuple[float, float]] = ()
    """The ends of a vertical bar through each point, which is left out where one is not finite."""

    def points(self) -> list[tuple[float, float]]:
        """The finite points."""
        return [(self.x[place], self.y[place]) for place in self._places()]

    def bars(self) -> Iterator[tuple[float, float, float]]:
        """The finite intervals as (x, low, high)."""
        for place in self._places() if self.intervals else ():
            low, high = self.intervals[place]
            if math.isfinite(low) and math.isfinite(high):
                yield self.x[place], low, high

    def named(self) -> Iterator[tuple[float, float, str]]:
        """The points that have a label, as (x, y, label)."""
        return ((self.x[place], self.y[place], self.labels[place]) for place in self._places() if self.labels)

    def _places(self) -> list[int]:
        pairs = enumerate(zip(self.x, self.y, strict=True))
        return [place for place, (x, y) in pairs if math.isfinite(x) and math.isfinite(y)]


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
        empty = f'<text x="{WIDTH // 2}" y="{HEIGHT // 2}" text-anchor="middle">no values</text>'
        return f"<svg {_view(HEIGHT, x_label, y_label)}>{empty}</svg>"
    across = _linear([x for x, _ in points])
    up = _vertical([y for _, y in points] + [end for line in lines for _, *ends in line.bars() for end in ends])
    curves = [_curve(line, pen, across, up) for line, pen in zip(lines, _pens(len(lines)), strict=True)]
    legend, more = _legend(lines, y_label)
    parts = [f'<g transform="translate(0 {more})">', *_grid(across, up), *curves, _x_name(x_label), "</g>", *legend]
    return f"<svg {_view(HEIGHT + more, x_label, y_label)}>\n" + "\n".join(parts) + "\n</svg>"


def _view(height: int, x_label: str, y_label: str) -> str:
    return (
        f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="currentColor" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}"'
    )


class _Pen(NamedTuple):
    colour: str
    dash: str

    @property
    def stroke(self) -> str:
        """Attributes of a line."""
        return f'stroke="{self.colour}"{self.dash}'


def _pens(count: int) -> list[_Pen]:
    """One for each line; from the sixth on the colours come again, dashed, and then dotted."""
    dashes = ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"')
    return [
        _Pen(COLOURS[index % len(COLOURS)], dashes[min(index // len(COLOURS), len(dashes) - 1)])
        for index in range(count)
    ]


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


def _curve(line: Line, pen: _Pen, across: _Axis, up: _Axis) -> str:
    places = [(_x(across, x), _y(up, y)) for x, y in line.points()]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    curve = f'<polyline points="{path}" fill="none" {pen.stroke} stroke-width="1.5"/>'
    for x, low, high in line.bars():
        curve += f'<path d="M{_x(across, x):.1f} {_y(up, low):.1f}V{_y(up, high):.1f}" {pen.stroke}/>'
    if len(places) <= MAX_MARKED:
        curve += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{pen.colour}"/>' for x, y in places)
    return curve + "".join(_label(_x(across, x), _y(up, y), text) for x, y, text in line.named())


def _label(x: float, y: float, text: str) -> str:
    # Into the frame: what starts right of its middle ends at the point.
    x, anchor = (x + 6, "start") if x < (LEFT + WIDTH - RIGHT) / 2 else (x - 6, "end")
    y = y - 6 if y > TOP else y + 14
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11">{escape(text)}</text>'


def _x_name(x_label: str) -> str:
    return f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'


def _legend(lines: Sequence[Line], y_label: str) -> tuple[list[str], int]:
    """The name of the vertical axis and those of the lines, and the height that all rows but the first take."""
    parts, start = [f'<text x="4" y="16">{escape(y_label)}</text>'], max(LEFT + 60, 24 + LETTER * len(y_label))
    x, y = start, 16
    for line, pen in zip(lines, _pens(len(lines)), strict=True):
        if not line.name:
            continue
        width = 48 + LETTER * len(line.name)
        if x > start and x + width > WIDTH:
            x, y = start, y + ROW
        parts.append(f'<path d="M{x:.0f} {y - 4}h18" {pen.stroke} stroke-width="2"/>')
        parts.append(f'<text x="{x + 24:.0f}" y="{y}">{escape(line.name)}</text>')
        x += width
    return parts, y - 16


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 0.75rem 0.75rem 0; vertical-align: top; max-width: 100%; }
figcaption { font-size: 0.85rem; }
img + figcaption { max-width: 16rem; }
svg, img { max-width: 100%; height: auto; }
img.small { image-rendering: pixelated; width: 128px; }
"""
SMALL = 100
"""Pictures of fewer pixels are shown enlarged, pixel by pixel."""
FILES = "_files"

Cell = str | int | float


class _Block(NamedTuple):
    html: str
    markdown: Callable[[str], str]
    """Given the folder of the files."""
    files: dict[str, bytes]


class Report:
    """Blocks in the order they are added; `save` writes `<name>.html`, which needs no other file, and `<name>.md`.

    Texts are taken as they are: nothing in them is read as markup.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[_Block] = []
        self._num_files = 0

    def heading(self, text: str) -> None:
        """A heading below the title."""
        self._add(f"<h2>{plain(text)}</h2>", f"## {text}")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add(f"<p>{plain(text)}</p>", text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table; whole numbers get commas, others four digits. Raises `InputError` where a row has another length."""
        if any(len(row) != len(columns) for row in rows):
            raise InputError(f"a row of the table has not {len(columns)} cells, as its columns are {list(columns)}.")
        numeric = [bool(rows) and all(not isinstance(row[place], str) for row in rows) for place in range(len(columns))]
        kinds = [' class="number"' if is_number else "" for is_number in numeric]
        head = "".join(f"<th{kind}>{plain(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
        body = "\n".join(
            "<tr>" + "".join(f"<td{kind}>{plain(shown(cell))}</td>" for cell, kind in zip(row, kinds, strict=True))
            + "</tr>"
            for row in rows
        )  # fmt: skip
        lines = [_markdown_row(columns), _markdown_row(["---:" if number else "---" for number in numeric])]
        lines += [_markdown_row([shown(cell) for cell in row]) for row in rows]
        html = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
        self._add(html, "\n".join(lines))

    def plot(self, title: str, lines: Sequence[Line], x_label: str, y_label: str) -> None:
        """Curves in one frame."""
        svg, name = svg_plot(lines, x_label, y_label), self._new_name("svg")
        # A file of its own has no page whose colour it could take.
        alone = svg.replace("currentColor", "#444").encode()
        html = f"<figure><figcaption>{plain(title)}</figcaption>\n{svg}</figure>"
        self._blocks.append(_Block(html, lambda folder: f"![{title}]({folder}/{name})", {name: alone}))

    def pictures(self, images: Sequence[Image.Image], captions: Sequence[str], told: Sequence[str] = ()) -> None:
        """Pictures beside each other, each above its caption; raises `InputError` where not every one has one.

        `told` is what is read out of each to who cannot see it, where that is more than the caption.
        """
        if len(images) != len(captions):
            raise InputError(f"{len(images)} pictures and {len(captions)} captions; give one for each.")
        for image, caption, text in zip(images, captions, told or captions, strict=True):
            self._picture(image, caption, text)

    def html(self) -> str:
        """The whole page, well-formed as XML too."""
        body = "\n".join(block.html for block in self._blocks)
        title = plain(self.title)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )

    def markdown(self, folder: str) -> str:
        """The page, whose plots and pictures are files in `folder`."""
        return "\n\n".join([f"# {self.title}", *(block.markdown(folder) for block in self._blocks)]) + "\n"

    def save(self, folder: Path | str, name: str = "report") -> Path:
        """Write both pages and the files of the second; returns the path of the first."""
        folder, files = Path(folder), name + FILES
        for block in self._blocks:
            for file, content in block.files.items():
                atomic_write(folder / files / file, content)
        atomic_write(folder / f"{name}.md", self.markdown(files))
        atomic_write(folder / f"{name}.html", self.html())
        return folder / f"{name}.html"

    def _picture(self, image: Image.Image, caption: str, told: str) -> None:
        file, name = io.BytesIO(), self._new_name("png")
        image.save(file, "PNG")
        kind = ' class="small"' if max(image.size) < SMALL else ""
        data = base64.b64encode(file.getvalue()).decode()
        html = (
            f'<figure><img{kind} src="data:image/png;base64,{data}" alt="{plain(told)}"/>'
            f"<figcaption>{plain(caption)}</figcaption></figure>"
        )
        alt, below = (text.replace("[", "(").replace("]", ")").replace("\n", " ") for text in (told, caption))
        self._blocks.append(_Block(html, lambda folder: f"![{alt}]({folder}/{name})\n{below}", {name: file.getvalue()}))

    def _add(self, html: str, markdown: str) -> None:
        self._blocks.append(_Block(html, lambda folder: markdown, {}))

    def _new_name(self, suffix: str) -> str:
        self._num_files += 1
        return f"{self._num_files:02d}.{suffix}"


def plain(text: str) -> str:
    """Any text for HTML: no markup, and no character that XML cannot hold."""
    return escape("".join(character if character.isprintable() else " " for character in text))


def shown(cell: Cell) -> str:
    """A cell as it is read: 12345 is 12,345 and 0.123456 is 0.1235."""
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"


def bytes_text(count: float) -> str:
    """12.3 MB, or 4.56 GB."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
