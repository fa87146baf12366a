"""Which column of a table holds pictures, and which captions. Knows names of columns only."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from unclip.errors import DataError, NoCaptionsError, did_you_mean

__all__ = ["Asked", "Columns", "find_columns"]

# The usual names, the surest first; compared without regard to case.
IMAGE_COLUMNS = (
    "file_name", "filename", "image_file", "image_path", "image", "img", "file", "filepath", "path", "picture",
    "jpg", "png", "webp",
)  # fmt: skip
CAPTION_COLUMNS = (
    "caption", "captions", "text", "texts", "prompt", "prompts", "description", "title", "sentence", "sentences",
    "alt_text", "alt", "txt", "label",
)  # fmt: skip
ADDRESS_COLUMNS = ("url", "image_url")


class Asked(NamedTuple):
    """What was said about columns; None: found by the usual names."""

    image: str | None
    caption: str | None
    with_captions: bool


class Columns(NamedTuple):
    """The names of the two columns that matter."""

    image: str
    caption: str | None
    """None where captions are left out."""

    def __str__(self) -> str:
        captions = "no captions" if self.caption is None else f"captions from {self.caption!r}"
        return f"pictures from column {self.image!r}, {captions}"


def find_columns(table: Path, names: Iterable[str], asked: Asked) -> Columns:
    """The columns asked for, or else the first usual names that are there.

    Raises `DataError` naming the columns there are, where one is missing.
    """
    there = [str(name) for name in names]
    if asked.image is None and not _usual(there, IMAGE_COLUMNS) and _usual(there, ADDRESS_COLUMNS):
        raise DataError(f"{table} holds addresses, not pictures; fetch them with img2dataset and give its output.")
    image = _column(table, there, asked.image, IMAGE_COLUMNS, "image")
    if not asked.with_captions:
        return Columns(image, None)
    return Columns(image, _column(table, there, asked.caption, CAPTION_COLUMNS, "caption"))


def _column(table: Path, names: list[str], asked: str | None, usual: tuple[str, ...], kind: str) -> str:
    if asked is not None:
        if asked not in names:
            raise DataError(f"{table} has no column {asked!r}; {did_you_mean(asked, names)}")
        return asked
    found = _usual(names, usual)
    if found is None:
        lacking = NoCaptionsError if kind == "caption" else DataError
        raise lacking(f"{table} has columns {', '.join(names)}; name the one of {kind}s by {kind}_column.")
    return found


def _usual(names: list[str], usual: tuple[str, ...]) -> str | None:
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in usual if name in by_name), None)
