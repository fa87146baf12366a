"""The options that name a source, and how it is opened and told. Knows typer; the data part recognises the source."""

import sys
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from unclip.data import Source

__all__ = ["CaptionColumn", "Captions", "ImageColumn", "Location", "Workers", "open_and_tell"]

Location: TypeAlias = Annotated[str, typer.Argument(help="A folder, a table, a .tar, a saved set, or a URL of shards.")]
Captions: TypeAlias = Annotated[str | None, typer.Option(help="txt, table, folders or none; else it is found out.")]
ImageColumn: TypeAlias = Annotated[str | None, typer.Option(help="The table's column of pictures, if it is unusual.")]
CaptionColumn: TypeAlias = Annotated[str | None, typer.Option(help="The table's column of captions, if it is unusual.")]
Workers: TypeAlias = Annotated[int, typer.Option(help="Processes that decode pictures.")]


def open_and_tell(
    location: str, captions: str | None, image_column: str | None, caption_column: str | None
) -> "Source":
    """Open the source and say on stderr what it was taken for."""
    from unclip.data import open_source

    source = open_source(location, captions, image_column=image_column, caption_column=caption_column)
    without = f"; {source.num_uncaptioned} without a caption" if source.num_uncaptioned else ""
    print(f"{location}: {source.description}{without}", file=sys.stderr)
    return source
