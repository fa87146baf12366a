"""`unclip inpaint`: a part of a picture painted anew. Knows options; the drawing is `UnClip.inpaint`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Feather, NumImages, Resamples, Shared, one_prompt, shares_options


@shares_options()
def inpaint(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    mask: Annotated[
        Path | None,
        typer.Argument(help="White, or transparent, where to paint, - is stdin; else the picture's clear part."),
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
    words = one_prompt(text, prompt)
    picture, *masks = read_pictures(*([image] if mask is None else [image, mask]))
    draw(
        shared,
        f"{title_of(image)}-inpainted",
        num_images,
        lambda pipe, options: pipe.inpaint(
            picture,
            next(iter(masks), None),
            words,
            num_images,
            mask_kind=mask_is,
            feather=feather,
            num_resamples=resamples,
            **options,
        ),
    )
