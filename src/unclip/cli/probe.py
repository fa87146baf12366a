"""`unclip probe`: what the leading components of a picture's embedding hold. Knows options; no mathematics."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Shared, shares_options
from unclip.errors import InputError


@shares_options(is_series=True)
def probe(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    components: Annotated[str | None, typer.Option(help="How many to keep: 1,4,16; else 1, 2, 4 up to all.")] = None,
    basis: Annotated[Path | None, typer.Option(help="A file of `unclip basis`; else the model's own.")] = None,
) -> None:
    """Draw what is left of a picture in the leading components of its embedding."""
    counts = parse_counts(components)
    (picture,) = read_pictures(image)
    from unclip.model import EmbeddingBasis

    chosen = None if basis is None else EmbeddingBasis.load(basis)
    draw(
        shared,
        f"{title_of(image)} probe",
        1,
        lambda pipe, options: pipe.probe(picture, counts, basis=chosen, **options),
    )


def parse_counts(text: str | None) -> list[int] | None:
    """`1,4,16` as numbers; None stays None. Raises `InputError` for anything else."""
    if text is None:
        return None
    counts = text.split(",")
    if not all(count.strip().isdecimal() for count in counts):
        raise InputError(f"--components {text!r} cannot be read; write whole numbers such as 1,4,16.")
    return [int(count) for count in counts]
