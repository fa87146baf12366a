"""`unclip image-to-image`: a picture drawn over. Knows options; the drawing is `UnClip.image_to_image`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, Guidance, ModelName, Negative, NumImages, Out, Sampler, Seed, Size, Steps

__all__ = ["image_to_image"]


def image_to_image(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    prompt: Annotated[str | None, typer.Argument(help="What to draw; without it, what CLIP sees in it.")] = None,
    num_images: NumImages = 1,
    strength: Annotated[float, typer.Option(help="Above 0, which keeps the picture, up to 1, which does not.")] = 0.7,
    negative: Negative = "",
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
    """Draw over a picture."""
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        prompt or f"{image.stem}-over",
        num_images,
        lambda pipe, options: pipe.image_to_image(
            image, prompt, num_images, strength=strength, negative_prompt=negative, **options
        ),
    )
