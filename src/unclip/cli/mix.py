"""`unclip mix`: pictures of weighted texts and pictures. Knows options; the drawing is in the pipeline."""

from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import NumImages, Shared, shares_options
from unclip.errors import InputError


@shares_options()
def mix(
    shared: Shared,
    parts: Annotated[
        list[str], typer.Argument(help='Texts and files of pictures, - is stdin: "a cat=0.7" dog.png=0.3.')
    ],
    num_images: NumImages = 1,
) -> None:
    """Draw pictures of texts and pictures at once, each with its weight: 1 unless it says =WEIGHT."""
    weighted = [parse_part(part) for part in parts]
    pictures = read_pictures(*(name for name, _ in weighted))
    inputs = [(picture, weight) for picture, (_, weight) in zip(pictures, weighted, strict=True)]
    draw(
        shared,
        " ".join(title_of(name) for name, _ in weighted),
        num_images,
        lambda pipe, options: pipe.mix(inputs, num_images, **options),
    )


def parse_part(part: str) -> tuple[str, float]:
    """A text or a file, and the weight after its last `=`; raises `InputError` where no number stands there."""
    name, separator, weight = part.rpartition("=")
    if not separator:
        return part, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise InputError(
            f"{part!r}: {weight!r} is no weight; write a number after the last =, as in {part}=1."
        ) from None
