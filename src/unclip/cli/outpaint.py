"""`unclip outpaint`: a picture that goes on beyond its borders. Knows options; the drawing is `UnClip.outpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, read_pictures, title_of
from unclip.cli.options import Feather, NumImages, PromptOption, Resamples, Shared, one_prompt, shares_options
from unclip.errors import InputError

Pixels = Annotated[int, typer.Option(help="Pixels to add on this side.")]


@shares_options()
def outpaint(
    shared: Shared,
    image: Annotated[Path, typer.Argument(help="The picture; - is stdin.")],
    prompt: Annotated[str | None, typer.Argument(help="What the whole shows; without it, as in the picture.")] = None,
    prompt_option: PromptOption = None,
    left: Pixels = 0,
    right: Pixels = 0,
    top: Pixels = 0,
    bottom: Pixels = 0,
    aspect: Annotated[str | None, typer.Option(help="WIDTH:HEIGHT to extend to, such as 16:9.")] = None,
    window: Annotated[int | None, typer.Option(help="Side of the squares that are painted in turn.")] = None,
    num_images: NumImages = 1,
    feather: Feather = 4,
    resamples: Resamples = 2,
) -> None:
    """Continue a picture beyond its borders; the picture itself stays to the bit."""
    shape, words = _parse_aspect(aspect), one_prompt(prompt, prompt_option)
    (picture,) = read_pictures(image)
    draw(
        shared,
        f"{title_of(image)}-outpainted",
        num_images,
        lambda pipe, options: pipe.outpaint(
            picture,
            words,
            num_images,
            left=left,
            right=right,
            top=top,
            bottom=bottom,
            aspect=shape,
            window=window,
            feather=feather,
            num_resamples=resamples,
            **options,
        ),
    )


def _parse_aspect(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, colon, height = text.partition(":")
    if not (colon and width.strip().isdecimal() and height.strip().isdecimal()):
        raise InputError(f"--aspect {text!r} cannot be read; write WIDTH:HEIGHT, such as 16:9.")
    return int(width), int(height)
