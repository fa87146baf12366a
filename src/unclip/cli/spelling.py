"""Write a task with its options as the command, and as the program, that draw the same."""

import shlex
from collections.abc import Mapping
from typing import Any

from unclip.cli.draw import COMMANDS
from unclip.cli.options import flag_of

PAIRS = {"image_size": "x", "aspect": ":"}
"""What stands between the two numbers of an option."""


def spell(model: str, task: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Return the command line and the Python program for `options` of a task, by their names in the library."""
    return command_of(model, task, options), program_of(model, task, options)


def program_of(model: str, task: str, options: Mapping[str, Any]) -> str:
    """Return the Python program for `options` of a task."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    lines = ["import unclip", "", f"pipe = unclip.UnClip.load({model!r})", f"result = pipe.{task}({arguments})"]
    return "\n".join([*lines, 'result.save("drawn.png")']) + "\n"


def command_of(model: str, task: str, options: Mapping[str, Any]) -> str:
    """Return the command line for `options` of a task."""
    command: Any = next((one for one in COMMANDS if one.task == task), None)  # type: ignore[attr-defined]
    words, texts, rest = ["unclip", "generate", "--unconditional"], [], dict(options)
    if command is not None:
        words = ["unclip", command.__name__.replace("_", "-")]
        for marker in command.typed:
            if (value := rest.get(marker.option)) is None or marker.hidden:
                continue
            del rest[marker.option]
            if marker.flag is not None:
                words += [marker.flag, _spell(marker.option, value)]
            elif marker.option == "parts":
                texts += [_part(*part) for part in value]
            else:
                texts.append(_spell(marker.option, value))
    flags: list[str] = []
    for name, value in rest.items():
        flags += [flag_of(name)] if value is True else [] if value is False else [flag_of(name), _spell(name, value)]
    flags += [] if model == "emoji" else ["--model", model]
    if any(text.startswith("-") for text in texts):
        return shlex.join([*words, *flags, "--", *texts])
    return shlex.join([*words[:2], *texts, *words[2:], *flags])


def _spell(name: str, value: Any) -> str:
    match value:
        case dict():
            return ",".join(f"{stage}={one}" for stage, one in value.items())
        case list() | tuple():
            return PAIRS.get(name, ",").join(map(str, value))
    return str(value)


def _part(text: str, weight: float) -> str:
    return f"{text}={weight:g}"
