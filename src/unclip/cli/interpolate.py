"""`unclip interpolate`: the way from one text or picture to another. Knows options; the drawing is in the pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, Guidance, ModelName, Sampler, SeriesOut, SeriesSeed, Size, Steps

__all__ = ["interpolate"]


def interpolate(
    a: Annotated[str, typer.Argument(help="Where to begin: a picture's file, or a text.")],
    b: Annotated[str, typer.Argument(help="Where to end: a picture's file, or a text.")],
    frames: Annotated[int, typer.Option(min=2, help="Pictures, both ends included.")] = 9,
    seed: SeriesSeed = None,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    model: ModelName = "emoji",
    out: SeriesOut = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw the way from one text or picture to another."""
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        f"{Path(a).stem} to {Path(b).stem}",
        1,
        lambda pipe, options: pipe.interpolate(a, b, frames, **options),
        is_series=True,
    )
