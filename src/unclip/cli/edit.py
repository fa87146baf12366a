"""`unclip edit`: a picture moves from one text to another. Knows options; the work is `UnClip.text_diff`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Shared, shares_options
from unclip.errors import InputError


@shares_options(without=("sampler",), is_series=True)
def edit(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    source: Annotated[str, typer.Option("--from", help="A text that says what it shows.")],
    target: Annotated[str, typer.Option("--to", help="A text that says what it shall show.")],
    theta: Annotated[
        str | None, typer.Option(help="How far to go, 0 to 1, else by the texts; several, as 0,0.2,0.4, make a strip.")
    ] = None,
) -> None:
    """Move a picture from one text to another."""
    thetas = _thetas(theta)
    (picture,) = read_pictures(image)
    draw(
        shared,
        f"{title_of(image)}-{target}",
        1,
        lambda pipe, options: pipe.text_diff(picture, source, target, theta=thetas, **options),
    )


def _thetas(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--theta {text!r} cannot be read; write numbers from 0 to 1, such as 0,0.2,0.4.") from None
