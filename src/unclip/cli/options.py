"""The options that commands share: their names, help and defaults, and what is typed turned into values.

Knows typer and text; stages check the values.
"""

from typing import Annotated, TypeAlias

import typer

from unclip.errors import InputError

__all__ = [
    "AsJson",
    "Device",
    "Feather",
    "Guidance",
    "ModelName",
    "Negative",
    "NumImages",
    "Out",
    "Resamples",
    "Sampler",
    "Seed",
    "SeriesOut",
    "SeriesSeed",
    "Size",
    "Steps",
    "StopAfter",
    "parse_size",
]

NumImages: TypeAlias = Annotated[int, typer.Option("-n", "--num-images", help="Pictures to draw.")]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Picture k has this seed + k; without it, a random one.")]
Size: TypeAlias = Annotated[str | None, typer.Option(help="A side that the model draws, or WIDTHxHEIGHT near one.")]
Steps: TypeAlias = Annotated[str | None, typer.Option(help="For all stages, or prior=25,decoder=25,upsampler_256=7.")]
Guidance: TypeAlias = Annotated[str | None, typer.Option(help="1 is off; for all stages, or prior=1,decoder=3.")]
Sampler: TypeAlias = Annotated[str | None, typer.Option(help="ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.")]
Negative: TypeAlias = Annotated[str, typer.Option(help="What guidance leads away from.")]
StopAfter: TypeAlias = Annotated[str | None, typer.Option(help="prior, decoder, ...: write a file for `finish`.")]
ModelName: TypeAlias = Annotated[str, typer.Option(help="A shipped model, a folder or a hub id.")]
Out: TypeAlias = Annotated[str | None, typer.Option("-o", "--out", help="A .png file or a folder; else this folder.")]
SeriesSeed: TypeAlias = Annotated[int | None, typer.Option(help="Of all pictures; without it, a random one.")]
SeriesOut: TypeAlias = Annotated[
    str | None, typer.Option("-o", "--out", help="All in one .png or .gif, or a folder; else a .png in this folder.")
]
Feather: TypeAlias = Annotated[int, typer.Option(help="Pixels inside its border over which what is painted fades in.")]
Resamples: TypeAlias = Annotated[int, typer.Option(help="How often the decoder makes each step, for a better fit.")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`256` or `384x256` (width x height); None stays None. Raises `InputError` for text that is neither."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"--size {text!r} cannot be read; write a side such as 256, or WIDTHxHEIGHT such as 384x256.")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
