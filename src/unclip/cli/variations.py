"""`unclip variations`: other pictures of which CLIP says the same. Knows options; the drawing is in the pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, Guidance, ModelName, NumImages, Out, Sampler, Seed, Size, Steps

__all__ = ["variations"]


def variations(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    num_images: NumImages = 1,
    eta: Annotated[
        float | None, typer.Option(help="Begin at the picture's own noise: 0 gives it back, up to 1 varies it.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="With --eta: upsamplers begin at its noise too.")] = False,
    prompt: Annotated[str | None, typer.Option(help="A text to lead to.")] = None,
    text_weight: Annotated[float, typer.Option(help="How far to it: 0 is the picture alone, 1 the text.")] = 0.5,
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
    """Draw variations of a picture."""
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        f"{image.stem}-variation",
        num_images,
        lambda pipe, options: pipe.image_variations(
            image, num_images, eta=eta, exact=exact, prompt=prompt, text_weight=text_weight, **options
        ),
    )
