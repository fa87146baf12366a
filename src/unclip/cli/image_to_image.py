"""`unclip image-to-image`: a picture drawn over. Knows options; the drawing is `UnClip.image_to_image`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Negative, NumImages, PromptOption, Shared, one_prompt, shares_options


@shares_options()
def image_to_image(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    prompt: Annotated[str | None, typer.Argument(help="What to draw; without it, what CLIP sees in it.")] = None,
    prompt_option: PromptOption = None,
    num_images: NumImages = 1,
    strength: Annotated[float, typer.Option(help="Above 0, which keeps the picture, up to 1, which does not.")] = 0.7,
    negative: Negative = "",
) -> None:
    """Draw over a picture."""
    (picture,), words = read_pictures(image), one_prompt(prompt, prompt_option)
    draw(
        shared,
        words or f"{title_of(image)}-over",
        num_images,
        lambda pipe, options: pipe.image_to_image(
            picture, words, num_images, strength=strength, negative_prompt=negative, **options
        ),
    )
