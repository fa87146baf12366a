"""The options that commands share: their names, help and defaults, and what is typed turned into values.

Knows typer and text; stages check the values.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, ParamSpec, TypeAlias, get_type_hints

import typer

from unclip.errors import InputError

P = ParamSpec("P")

# Hidden: as other commands spell the prompt. Both spellings are accepted wherever there is one.
PromptOption: TypeAlias = Annotated[str | None, typer.Option("--prompt", hidden=True)]
NumImages: TypeAlias = Annotated[int, typer.Option("-n", "--num-images", max=100_000, help="Pictures to draw.")]
Negative: TypeAlias = Annotated[str, typer.Option(help="What guidance leads away from.")]
StopAfter: TypeAlias = Annotated[str | None, typer.Option(help="prior, decoder, ...: write a file for `finish`.")]
ModelName: TypeAlias = Annotated[str, typer.Option(help="A shipped model, a folder or a hub id.")]
Feather: TypeAlias = Annotated[int, typer.Option(help="Pixels inside its border over which what is painted fades in.")]
Resamples: TypeAlias = Annotated[int, typer.Option(help="How often the decoder makes each step, for a better fit.")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options of every command that draws, as they were typed. A command gets them by `shares_options`."""

    is_series: bool = False
    """Whether its pictures belong together: one seed, and one file unless a folder is asked for."""
    seed: Annotated[int | None, typer.Option(help="Picture k has this seed + k; without it, a random one.")] = None
    size: Annotated[str | None, typer.Option(help="A side that the model draws, or WIDTHxHEIGHT near one.")] = None
    steps: Annotated[
        list[str] | None, typer.Option(metavar="<str>", help="For all stages, or prior=25,decoder=25,upsampler_256=7.")
    ] = None
    guidance: Annotated[
        list[str] | None, typer.Option(metavar="<str>", help="1 is off; for all stages, or prior=1,decoder=3.")
    ] = None
    sampler: Annotated[
        list[str] | None, typer.Option(metavar="<str>", help="ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.")
    ] = None
    batch_size: Annotated[int | None, typer.Option(help="Pictures drawn together; else 1 on a CPU, 8 elsewhere.")] = (
        None
    )
    model: ModelName = "emoji"
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="A .png, .jpg or .webp file, a folder, or - (stdout); else this folder."),
    ] = None
    form: Annotated[str | None, typer.Option("--format", help="png, jpg or webp, in a folder or on stdout.")] = None
    device: Device = "auto"
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False


SERIES_HELP = {
    "seed": Annotated[int | None, typer.Option(help="Of all pictures; without it, a random one.")],
    "out": Annotated[
        str | None,
        typer.Option("-o", "--out", help="All in one .png, .jpg, .webp or .gif, a folder, or - (stdout)."),
    ],
}


def shares_options(
    *, without: Collection[str] = (), is_series: bool = False
) -> Callable[[Callable[Concatenate[Shared, P], None]], Callable[..., None]]:
    """Give a command, whose first parameter is `Shared`, those options after its own, but for some it has no use for.

    typer reads a command's signature, so that is what is extended.
    """
    hints = get_type_hints(Shared, include_extras=True) | (SERIES_HELP if is_series else {})
    shared = [
        Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=hints[field.name])
        for field in fields(Shared)
        if field.name not in ("is_series", *without)
    ]

    def decorate(command: Callable[Concatenate[Shared, P], None]) -> Callable[..., None]:
        _, *own = signature(command).parameters.values()

        @wraps(command)
        def program(**given: Any) -> None:
            options = {parameter.name: given.pop(parameter.name) for parameter in shared}
            command(Shared(is_series=is_series, **options), **given)  # type: ignore[call-arg]

        program.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]
        program.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        return program

    return decorate


def one_prompt(text: str | None, option: str | None) -> str | None:
    """The prompt, which stands after the picture or behind --prompt; raises `InputError` where it stands in both."""
    if text is not None and option is not None:
        raise InputError(f"two prompts were given, {text!r} and --prompt {option!r}; give one.")
    return option if text is None else text


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`256` or `384x256` (width x height); None stays None. Raises `InputError` for text that is neither."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"--size {text!r} cannot be read; write a side such as 256, or WIDTHxHEIGHT such as 384x256.")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
