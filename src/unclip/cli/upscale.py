"""`unclip upscale`: a larger, sharper copy of any picture. Knows options; the work is `UnClip.upscale`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, ModelName, Out, Sampler, Seed, Steps

__all__ = ["upscale"]


def upscale(
    image: Annotated[Path, typer.Argument(help="The picture, of any size and shape.")],
    size: Annotated[int | None, typer.Option(help="Longer side in pixels; else by the upsampler's factor.")] = None,
    seed: Seed = None,
    steps: Steps = None,
    sampler: Sampler = None,
    model: ModelName = "emoji",
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Enlarge a picture and sharpen it."""
    shared = Shared(
        seed=seed, size=None, steps=steps, guidance=None, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(shared, f"{image.stem}-upscaled", 1, lambda pipe, options: pipe.upscale(image, size, **options))
