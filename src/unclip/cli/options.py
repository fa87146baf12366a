"""Make options of the command line from the descriptions of tasks, and read what is typed."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import typer

from unclip.cli.signatures import REQUIRED, TaskOption, read_tasks
from unclip.errors import InputError

T = TypeVar("T")

ModelName: TypeAlias = Annotated[str, typer.Option(help="A shipped model, a folder or a hub id.")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]

# Options whose names differ from those in Python.
RENAMED = {
    "image_size": "size", "num_steps": "steps", "guidance_scale": "guidance", "num_candidates": "candidates",
    "negative_prompt": "negative", "num_resamples": "resamples", "mask_kind": "mask_is", "num_workers": "workers",
}  # fmt: skip
TYPES: Mapping[str, type] = {"integer": int, "number": float, "boolean": bool}
MAX_IMAGES = 100_000


@dataclass(frozen=True)
class Typed:
    """How a command takes an option of its task that is an argument, or has another name or help than usual."""

    option: str
    flag: str | None = None
    """None makes it an argument."""
    task: str | None = None
    """Another task than the command's."""
    help: str | None = None
    metavar: str | None = None
    hidden: bool = False


def place_parameter(parameter: Parameter, task: str) -> Parameter:
    """A command's own parameter as typer reads it; the help of one that is marked as `Typed` is its task's."""
    kind, marker = get_args(parameter.annotation)
    if isinstance(marker, Typed):
        about = marker.help or read_tasks()[marker.task or task].own[marker.option].help
        words: dict[str, Any] = {"help": None if marker.hidden else about, "hidden": marker.hidden}
        words |= {"metavar": marker.metavar}
        marker = typer.Argument(**words) if marker.flag is None else typer.Option(marker.flag, **words)
    return parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=Annotated[kind, marker])


def help_of(name: str) -> str:
    """The help of an option of `text_to_image`, for a command that has it too."""
    described = read_tasks()["text_to_image"]
    return {**described.own, **described.shared}[name].help


def flag_of(name: str) -> str:
    """The option for a parameter of the library: `--steps` for `num_steps`."""
    return f"--{RENAMED.get(name, name).replace('_', '-')}"


def make_parameter(described: TaskOption, names: Collection[str]) -> Parameter:
    """A parameter that typer makes into an option, for an option of a task whose options are called `names`."""
    kind: Any = TYPES.get(described.kind, str)
    bounds: dict[str, Any] = {}
    if described.is_per_stage:
        kind, bounds = list[str], {"metavar": "<str>"}
    elif described.choices:
        kind = Literal[tuple(described.choices)]
    elif described.name == "num_images":
        bounds = {"max": MAX_IMAGES}
    elif described.kind == "integer" and (described.least or 0) > 1:
        bounds = {"min": described.least}
    flags = ["-n"] if described.name == "num_images" else []
    text = re.sub(r"`(\w+)`", lambda word: flag_of(word[1]) if word[1] in names else word[0], described.help)
    about = typer.Option(*flags, flag_of(described.name), help=text, **bounds)
    default = Parameter.empty if described.default is REQUIRED else described.default
    kind = kind | None if default is None else kind
    return Parameter(described.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, about])


def read_typed(described: TaskOption, typed: Any) -> Any:
    """The value of an option from what `make_parameter` took."""
    if described.kind == "size":
        return parse_size(typed)
    if described.is_per_stage:
        return parse_per_stage(flag_of(described.name), typed, TYPES.get(described.kind, str))
    return typed


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


def parse_per_stage(
    option: str, typed: str | Sequence[str] | None, kind: Callable[[str], T]
) -> T | dict[str, T] | None:
    """One value, or a mapping from stage to value; None stays None. Raises `InputError` for text that is neither.

    An option that is there several times is read as once with commas; of two values for the same, the last counts.
    """
    texts = [typed] if isinstance(typed, str) else list(typed or [])
    if not texts:
        return None

    def parse(text: str) -> T:
        try:
            return kind(text.strip())
        except ValueError:
            raise InputError(f"{option}: {text!r} is not {'a whole' if kind is int else 'a'} number.") from None

    if all("=" not in text for text in texts):
        return parse(texts[-1])
    pairs = [pair.partition("=") for text in texts for pair in text.split(",")]
    if not all(stage.strip() and separator for stage, separator, _ in pairs):
        raise InputError(f"{option} {','.join(texts)!r} cannot be read; write one value, or prior=VALUE,decoder=VALUE.")
    return {stage.strip(): parse(value) for stage, _, value in pairs}


def parse_numbers(option: str, text: str | None, kind: Callable[[str], T], example: str) -> list[T] | None:
    """Numbers with commas between them; None stays None. Raises `InputError` for anything else."""
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r} cannot be read; write numbers such as {example}.") from None
