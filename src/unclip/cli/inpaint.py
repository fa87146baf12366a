"""`unclip inpaint`: a part of a picture painted anew. Knows options; the drawing is `UnClip.inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import (
    AsJson,
    Device,
    Feather,
    Guidance,
    ModelName,
    NumImages,
    Out,
    Resamples,
    Sampler,
    Seed,
    Size,
    Steps,
)
from unclip.errors import InputError

__all__ = ["inpaint"]


def inpaint(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    mask: Annotated[Path | None, typer.Argument(help="White where to paint; without it, what is transparent.")] = None,
    text: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What to paint; without it, the same.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to paint where no mask is given before it.")] = None,
    num_images: NumImages = 1,
    feather: Feather = 4,
    resamples: Resamples = 2,
    seed: Seed = None,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    model: ModelName = "emoji",
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Paint a part of a picture anew; the rest stays to the bit."""
    if text is not None and prompt is not None:
        raise InputError(f"two prompts were given, {text!r} and --prompt {prompt!r}; give one.")
    words = prompt if text is None else text
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        f"{image.stem}-inpainted",
        num_images,
        lambda pipe, options: pipe.inpaint(
            image, mask, words, num_images, feather=feather, num_resamples=resamples, **options
        ),
    )
