"""`unclip variations`: other pictures of which CLIP says the same. Knows options; the drawing is in the pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import NumImages, Shared, one_prompt, shares_options


@shares_options()
def variations(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    text: Annotated[str | None, typer.Argument(metavar="[PROMPT]", hidden=True)] = None,
    num_images: NumImages = 1,
    eta: Annotated[
        float | None, typer.Option(help="Begin at the picture's own noise: 0 gives it back, up to 1 varies it.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="With --eta: upsamplers begin at its noise too.")] = False,
    prompt: Annotated[str | None, typer.Option(help="A text to lead to.")] = None,
    text_weight: Annotated[float, typer.Option(help="How far to it: 0 is the picture alone, 1 the text.")] = 0.5,
) -> None:
    """Draw variations of a picture."""
    (picture,), words = read_pictures(image), one_prompt(text, prompt)
    draw(
        shared,
        f"{title_of(image)}-variation",
        num_images,
        lambda pipe, options: pipe.image_variations(
            picture, num_images, eta=eta, exact=exact, prompt=words, text_weight=text_weight, **options
        ),
    )
