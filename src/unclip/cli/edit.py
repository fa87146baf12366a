"""`unclip edit`: a picture moved from one text towards another. Knows options; the drawing is `UnClip.text_diff`."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, Guidance, ModelName, Sampler, SeriesOut, SeriesSeed, Size, Steps
from unclip.errors import InputError

__all__ = ["edit"]


def edit(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    target: Annotated[str, typer.Option("--to", help="What it shall become.")],
    source: Annotated[str, typer.Option("--from", help="What it shows; without it, the empty prompt.")] = "",
    theta: Annotated[
        str | None, typer.Option(help="How far, from 0 (itself) to 1; 0,0.2,0.4 is a strip; else by the texts.")
    ] = None,
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
    """Move a picture from one text towards another."""
    thetas = _parse(theta)
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        f"{image.stem} to {target}",
        1,
        lambda pipe, options: pipe.text_diff(image, source, target, theta=thetas, **options),
        is_series=True,
    )


def _parse(theta: str | None) -> list[float] | None:
    if theta is None:
        return None
    try:
        return [float(number) for number in theta.split(",")]
    except ValueError:
        raise InputError(f"--theta {theta!r} cannot be read; write a number such as 0.4, or 0,0.2,0.4.") from None
