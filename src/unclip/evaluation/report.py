"""A page of texts, tables, plots and pictures, written as HTML and as Markdown. Knows blocks; not what they report."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unclip.errors import InputError
from unclip.evaluation.plot import Line, svg_plot
from unclip.files import atomic_write

__all__ = ["Report"]

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


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
