"""`unclip inpaint`: a part of a picture painted anew. Knows options; the drawing is `UnClip.inpaint`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unclip.cli.draw import draw
from unclip.cli.options import Feather, NumImages, Resamples, Shared, shares_options
from unclip.errors import InputError

__all__ = ["inpaint"]


@shares_options()
def inpaint(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture.")],
    mask: Annotated[
        Path | None, typer.Argument(help="White, or transparent, where to paint; else the picture's clear part.")
    ] = None,
    text: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What to paint; without it, the same.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to paint where no mask is given before it.")] = None,
    mask_is: Annotated[
        Literal["white", "alpha"] | None,
        typer.Option(help="Paint by the mask's white or alpha; else by what it looks like."),
    ] = None,
    num_images: NumImages = 1,
    feather: Feather = 4,
    resamples: Resamples = 2,
) -> None:
    """Paint a part of a picture anew; the rest stays to the bit."""
    if text is not None and prompt is not None:
        raise InputError(f"two prompts were given, {text!r} and --prompt {prompt!r}; give one.")
    words = prompt if text is None else text
    draw(
        shared,
        f"{image.stem}-inpainted",
        num_images,
        lambda pipe, options: pipe.inpaint(
            image, mask, words, num_images, mask_kind=mask_is, feather=feather, num_resamples=resamples, **options
        ),
    )
