"""`unclip upscale`: a larger, sharper copy of any picture. Knows options; the work is `UnClip.upscale`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Shared, shares_options


@shares_options(without=("size", "guidance", "batch_size"))
def upscale(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture, of any size and shape; - is stdin.")],
    size: Annotated[int | None, typer.Option(help="Longer side in pixels; else by the upsampler's factor.")] = None,
) -> None:
    """Enlarge a picture and sharpen it."""
    (picture,) = read_pictures(image)
    draw(shared, f"{title_of(image)}-upscaled", 1, lambda pipe, options: pipe.upscale(picture, size, **options))
