"""`unclip interpolate`: the way from one text or picture to another. Knows options; the drawing is in the pipeline."""

from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Shared, shares_options


@shares_options(is_series=True)
def interpolate(
    shared: Shared,
    a: Annotated[str, typer.Argument(help="Where to begin: a picture's file, - (stdin), or a text.")],
    b: Annotated[str, typer.Argument(help="Where to end: a picture's file, - (stdin), or a text.")],
    frames: Annotated[int, typer.Option(min=2, help="Pictures, both ends included.")] = 9,
) -> None:
    """Draw the way from one text or picture to another."""
    first, second = read_pictures(a, b)
    draw(
        shared,
        f"{title_of(a)} to {title_of(b)}",
        1,
        lambda pipe, options: pipe.interpolate(first, second, frames, **options),
    )
