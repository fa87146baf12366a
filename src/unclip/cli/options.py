"""Make options of the command line from the descriptions of tasks, and read what is typed."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from typer import Argument, Option

from unclip.cli.signatures import REQUIRED, TaskOption, read_tasks
from unclip.errors import InputError

T = TypeVar("T")

ModelName: TypeAlias = Annotated[str, Option(help="A shipped model, a folder or a hub id.")]
Device: TypeAlias = Annotated[str, Option(help="auto, cpu, cuda or mps.")]
AsJson: TypeAlias = Annotated[bool, Option("--json", help="Print one line of JSON.")]
Changes: TypeAlias = Annotated[list[str] | None, Option("--set", help="Change a setting: key=value.")]

# Options whose names differ from those in Python.
RENAMED = {
    "image_size": "size", "num_steps": "steps", "guidance_scale": "guidance", "num_candidates": "candidates",
    "negative_prompt": "negative", "num_resamples": "resamples", "mask_kind": "mask_is", "num_workers": "workers",
}  # fmt: skip
TYPES: Mapping[str, type] = {"integer": int, "number": float, "boolean": bool}
MAX_IMAGES = 100_000
NODE_EXAMPLE = "0/4 for the first of four machines"


@dataclass(frozen=True)
class Typed:
    """An option of a task that a command takes as an argument, or under another name or help than usual."""

    option: str
    flag: str | None = None
    """None makes it an argument."""
    task: str | None = None
    """Another task than the command's."""
    help: str | None = None
    metavar: str | None = None
    hidden: bool = False


def place_parameter(parameter: Parameter, task: str) -> Parameter:
    """Return a command's own parameter as typer reads it; one marked as `Typed` has the help of its task's option."""
    kind, marker = get_args(parameter.annotation)
    if isinstance(marker, Typed):
        text = marker.help or read_tasks()[marker.task or task].own[marker.option].help
        shown: dict[str, Any] = {"help": None if marker.hidden else text, "hidden": marker.hidden}
        shown["metavar"] = marker.metavar
        marker = Argument(**shown) if marker.flag is None else Option(marker.flag, **shown)
    return parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=Annotated[kind, marker])


def help_of(name: str) -> str:
    """Return the help of an option of `text_to_image`, for a command that has it too."""
    described = read_tasks()["text_to_image"]
    return {**described.own, **described.shared}[name].help


def flag_of(name: str) -> str:
    """Return the option for a parameter of the library: `--steps` for `num_steps`."""
    return f"--{RENAMED.get(name, name).replace('_', '-')}"


def make_parameter(described: TaskOption, names: Collection[str]) -> Parameter:
    """Make a parameter, which typer makes into an option, for an option of a task whose options are called `names`."""
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
    option = Option(*flags, flag_of(described.name), help=text, **bounds)
    default = Parameter.empty if described.default is REQUIRED else described.default
    kind = kind | None if default is None else kind
    return Parameter(described.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def read_typed(described: TaskOption, typed: Any) -> Any:
    """Return the value of an option from what `make_parameter` took."""
    if described.kind == "size":
        return parse_size(typed)
    if described.is_per_stage:
        return parse_per_stage(flag_of(described.name), typed, TYPES.get(described.kind, str))
    return typed


def one_prompt(text: str | None, option: str | None) -> str | None:
    """Return the prompt, an argument or that of --prompt; raises `InputError` if there are both."""
    if text is not None and option is not None:
        raise InputError(f"two prompts were given, {text!r} and --prompt {option!r}; give one.")
    return option if text is None else text


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Read `256` or `384x256` (width x height); None stays None. Raises `InputError` for text that is neither."""
    if text is None or text.strip().isdecimal():
        return None if text is None else int(text)
    return parse_pair("--size", text, "x", "a side such as 256, or WIDTHxHEIGHT such as 384x256")


def parse_pair(option: str, text: str, separator: str, example: str) -> tuple[int, int]:
    """Read two whole numbers with a separator between them; raises `InputError` for anything else."""
    numbers = text.lower().split(separator)
    if len(numbers) != 2 or not all(number.strip().isdecimal() for number in numbers):
        raise InputError(f"{option} {text!r} cannot be read; write {example}.")
    return int(numbers[0]), int(numbers[1])


def parse_changes(changes: Sequence[str] | None) -> dict[str, str]:
    """Read each `key=value` of --set; raises `InputError` for text that is none."""
    pairs = {}
    for change in changes or []:
        key, separator, value = change.partition("=")
        if not (key and separator):
            raise InputError(f"--set {change!r} cannot be read; write key=value, for example --set batch_size=64.")
        pairs[key] = value
    return pairs


def parse_per_stage(
    option: str, typed: str | Sequence[str] | None, kind: Callable[[str], T]
) -> T | dict[str, T] | None:
    """Read one value, or a mapping from stage to value; None stays None. Raises `InputError` for anything else.

    Several options are read as one with commas; of two values for the same stage, the last counts.
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
    """Read numbers with commas between them; None stays None. Raises `InputError` for anything else."""
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r} cannot be read; write numbers such as {example}.") from None
