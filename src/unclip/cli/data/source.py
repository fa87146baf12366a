"""The options that name a source, and how it is opened and told. Knows typer; the data part recognises the source."""

import os
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from unclip.progress import say

if TYPE_CHECKING:
    from unclip.data import Source


Location: TypeAlias = Annotated[str, typer.Argument(help="A folder, a table, a .tar, a saved set, or a URL of shards.")]
Captions: TypeAlias = Annotated[str | None, typer.Option(help="txt, table, folders or none; else it is found out.")]
ImageColumn: TypeAlias = Annotated[str | None, typer.Option(help="The table's column of pictures, if unusual.")]
CaptionColumn: TypeAlias = Annotated[
    str | None, typer.Option(help="The table's column of captions, or the field of each .json, if unusual.")
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes that decode pictures; else one, and one per core from 2000 pictures on.")
]

WORTH_PROCESSES = 2000
MAX_WORKERS = 8


def open_and_tell(
    location: str, captions: str | None, image_column: str | None, caption_column: str | None
) -> "Source":
    """Open the source and say on stderr what it was taken for."""
    from unclip.data import open_source

    source = open_source(location, captions, image_column=image_column, caption_column=caption_column)
    without = f"; {source.num_uncaptioned} without a caption" if source.num_uncaptioned else ""
    say(f"{location}: {source.description}{without}")
    return source


# A process takes two seconds to start, in which this one prepares some two hundred pictures.
def num_workers(asked: int | None, source: "Source") -> int:
    """How many processes to use: those asked for, or as many as are worth it."""
    from unclip.errors import InputError

    if asked is not None:
        if asked < 1:
            raise InputError(f"--workers {asked} does nothing; use 1 or more.")
        return asked
    return min(os.cpu_count() or 1, MAX_WORKERS) if len(source) >= WORTH_PROCESSES else 1
