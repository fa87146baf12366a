"""Write pages in HTML and Markdown with tables, pictures and line plots."""

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.images import encode_picture

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

Cell = str | int | float


class Line(NamedTuple):
    """One curve, its points joined in their order; a point whose value is not finite is left out."""

    name: str
    """Text in the legend; "" is left out."""
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    """A text beside each point."""
    intervals: Sequence[tuple[float, ...]] = ()
    """The ends of a vertical bar through each point; () is no bar, and so are ends that are not finite."""

    def points(self) -> list[tuple[float, float, str, tuple[float, ...]]]:
        """List the finite points, each with its label ("" for none) and the ends of its bar (none, or two)."""
        columns = (self.x, self.y, self.labels or [""] * len(self.x), self.intervals or [()] * len(self.x))
        return [
            (x, y, label, ends if all(map(math.isfinite, ends)) else ())
            for x, y, label, ends in zip(*columns, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]


class Report:
    """A page of blocks in the order they are added; `save` writes `<name>.html`, which is complete, and `<name>.md`.

    Texts are shown as they are: nothing in them is read as markup.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._html: list[str] = []
        self._markdown: list[Callable[[str], str]] = []
        """Each maps the folder of `_files` to its text."""
        self._files: dict[str, bytes] = {}

    def heading(self, text: str) -> None:
        """Add a heading below the title."""
        self._add(f"<h2>{plain(text)}</h2>", f"## {text}")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add(f"<p>{plain(text)}</p>", text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table; whole numbers get commas, others four digits. Raises `InputError` for a row of another size."""
        if any(len(row) != len(columns) for row in rows):
            raise InputError(f"a row of the table has not {len(columns)} cells, as its columns are {list(columns)}.")
        numeric = [bool(rows) and all(not isinstance(row[place], str) for row in rows) for place in range(len(columns))]

        def html_row(tag: str, cells: Sequence[Cell]) -> str:
            kinds = [' class="number"' if is_number else "" for is_number in numeric]
            return "".join(
                f"<{tag}{kind}>{plain(cell_text(cell))}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)
            )

        body = "\n".join(f"<tr>{html_row('td', row)}</tr>" for row in rows)
        html = f"<table><thead><tr>{html_row('th', columns)}</tr></thead><tbody>\n{body}\n</tbody></table>"
        lines = [columns, ["---:" if is_number else "---" for is_number in numeric], *rows]
        cells = [[cell_text(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in lines]
        self._add(html, "\n".join(f"| {' | '.join(row)} |" for row in cells))

    def plot(self, title: str, lines: Sequence[Line], x_label: str, y_label: str) -> None:
        """Add curves in one frame."""
        svg = svg_plot(lines, x_label, y_label)
        # A separate file has no page whose colour it could take.
        file = svg.replace("currentColor", "#444").encode()
        self._add_file(f"<figure><figcaption>{plain(title)}</figcaption>\n{svg}</figure>", "svg", file, title)

    def pictures(self, images: Sequence[Image.Image], captions: Sequence[str], alt: Sequence[str] = ()) -> None:
        """Add pictures beside each other, each above its caption; `alt` holds alternative texts, the captions if empty.

        Raises `InputError` unless there is one caption for each picture.
        """
        if len(images) != len(captions):
            raise InputError(f"{len(images)} pictures and {len(captions)} captions; give one for each.")
        for image, caption, alt_text in zip(images, captions, alt or captions, strict=True):
            file = encode_picture(image, ".png")
            kind = ' class="small"' if max(image.size) < SMALL else ""
            source = f"data:image/png;base64,{base64.b64encode(file).decode()}"
            html = f'<img{kind} src="{source}" alt="{plain(alt_text)}"/><figcaption>{plain(caption)}</figcaption>'
            inside, below = (text.translate(str.maketrans("[]\n", "() ")) for text in (alt_text, caption))
            self._add_file(f"<figure>{html}</figure>", "png", file, inside, f"\n{below}")

    def html(self) -> str:
        """Return the whole page, which is well-formed XML too."""
        title, body = plain(self.title), "\n".join(self._html)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )

    def markdown(self, folder: str) -> str:
        """Return the page as Markdown, whose plots and pictures are files in `folder`."""
        return "\n\n".join([f"# {self.title}", *(text(folder) for text in self._markdown)]) + "\n"

    def save(self, folder: Path | str, name: str = "report") -> Path:
        """Write both pages, and the files of the second into `<name>_files`; returns the path of the first."""
        folder, files = Path(folder), f"{name}_files"
        for file, content in self._files.items():
            atomic_write(folder / files / file, content)
        atomic_write(folder / f"{name}.md", self.markdown(files))
        atomic_write(folder / f"{name}.html", self.html())
        return folder / f"{name}.html"

    def _add(self, html: str, markdown: str | Callable[[str], str]) -> None:
        self._html.append(html)
        self._markdown.append((lambda folder: markdown) if isinstance(markdown, str) else markdown)

    def _add_file(self, html: str, suffix: str, content: bytes, alt: str, below: str = "") -> None:
        name = f"{len(self._files) + 1:02d}.{suffix}"
        self._files[name] = content
        self._add(html, lambda folder: f"![{alt}]({folder}/{name}){below}")


WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 40
ROW = 18
"""Height of a row of the legend."""
COLOURS = ("#2a6fdb", "#d9480f", "#2b8a3e", "#a347ba", "#7a6a00")
DASHES = ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"')
"""For the first five lines, the next five, and the next."""
LOG_RANGE = 8.0
"""Positive values that differ by more than this factor get a logarithmic axis."""
MAX_MARKED = 16
"""Lines of no more points than this show each of them."""


def svg_plot(lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Return curves in one frame with axes and a legend, as an `<svg>` element whose texts take the page's colour.

    The vertical axis is logarithmic where all values are positive and the largest is over 8 times the smallest.
    """
    looks = [f'stroke="{colour}"{dash}' for dash in DASHES for colour in COLOURS]
    pens = [looks[number % len(looks)] for number in range(len(lines))]
    parts = [_text(4, 16, y_label)]
    for number, (line, pen) in enumerate((pair for pair in zip(lines, pens, strict=True) if pair[0].name), start=1):
        row = 16 + ROW * number
        parts.append(f'<path d="M{LEFT} {row - 4}h18" {pen} stroke-width="2"/>{_text(LEFT + 24, row, line.name)}')
    more = ROW * (len(parts) - 1)
    top, bottom, right = TOP + more, HEIGHT + more - BOTTOM, WIDTH - RIGHT
    points = [point for line in lines for point in line.points()]
    if points:
        ys = [value for _, y, _, ends in points for value in (y, *ends)]
        x_ticks, place_x = _axis([x for x, *_ in points], LEFT, right)
        y_ticks, place_y = _axis(ys, bottom, top, is_log=0 < LOG_RANGE * min(ys) < max(ys))
        for y, name in ((place_y(tick), f"{tick:.4g}") for tick in y_ticks):
            parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.15"/>')
            parts.append(_text(LEFT - 6, y + 4, name, "end"))
        for x, name in ((place_x(tick), f"{tick:,.6g}") for tick in x_ticks):
            parts.append(f'<path d="M{x:.1f} {bottom}v4" stroke="currentColor"/>')
            parts.append(_text(x, bottom + 18, name, "middle"))
        parts.append(f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="currentColor"/>')
        parts.append(_text(right, bottom + 34, x_label, "end"))
    else:
        parts = [_text(WIDTH // 2, HEIGHT // 2, "no values", "middle")]
    for line, pen in zip(lines, pens, strict=True) if points else ():
        places = [(place_x(x), place_y(y), label, ends) for x, y, label, ends in line.points()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in places)
        parts.append(f'<polyline points="{path}" fill="none" {pen} stroke-width="1.5"/>')
        for x, y, label, ends in places:
            if ends:
                parts.append(f'<path d="M{x:.1f} {place_y(ends[0]):.1f}V{place_y(ends[1]):.1f}" {pen}/>')
            if len(places) <= MAX_MARKED:
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" {pen} stroke-width="2"/>')
            if label:  # towards the middle of the frame
                is_left, below = x < (LEFT + right) / 2, 14 if y <= top else -6
                parts.append(_text(x + 6 if is_left else x - 6, y + below, label, "start" if is_left else "end"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + more}" width="{WIDTH}" '
        f'height="{HEIGHT + more}" font-family="sans-serif" font-size="12" fill="currentColor" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}">\n' + "\n".join(parts) + "\n</svg>"
    )


def _axis(
    values: Sequence[float], first: float, last: float, *, is_log: bool = False
) -> tuple[list[float], Callable[[float], float]]:
    """Return ticks, and the map from a value to its place between the pixels `first` and `last`."""
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) or 1.0
        low, high = low - margin / 2, high + margin / 2
    if is_log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    else:  # about five multiples of 1, 2 or 5 times a power of ten
        power = 10.0 ** math.floor(math.log10((high - low) / 5))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= (high - low) / 5)
        ticks = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    scale: Callable[[float], float] = math.log if is_log else float
    pixels = (last - first) / (scale(high) - scale(low))
    return [tick for tick in ticks if low <= tick <= high], lambda value: first + (scale(value) - scale(low)) * pixels


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def plain(text: str) -> str:
    """Escape a text for HTML: without markup, and without characters that XML cannot hold."""
    return escape("".join(character if character.isprintable() else " " for character in text))


def cell_text(cell: Cell) -> str:
    """Write a cell as tables show it: 12345 is 12,345 and 0.123456 is 0.1235."""
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
