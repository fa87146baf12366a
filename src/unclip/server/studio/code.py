"""Write how a picture is drawn again: as Python, and by whatever spells commands."""

from collections.abc import Mapping
from typing import Any

from unclip.pipelines.options import TASKS

COUNTS = ("num_images", "best_of")
"""Options about how many pictures there are: the seed of one draws it alone."""


def options_of(task: str, request: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the options that draw one picture of a request, or its whole series, as the library takes them."""
    usual = {option.name: option.default for option in TASKS[task].options}
    said = {name: value for name, value in request.items() if name in usual and name not in COUNTS}
    options = {name: _value(value) for name, value in said.items() if value != usual[name]}
    return options | ({"seed": seed} if "seed" in usual else {})


def python_of(model: str, task: str, options: Mapping[str, Any]) -> str:
    """Write the program that draws a picture again."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    lines = ["import unclip", "", f"pipe = unclip.UnClip.load({model!r})", f"result = pipe.{task}({arguments})"]
    return "\n".join([*lines, 'result.save("picture.png")']) + "\n"


def _value(value: Any) -> Any:
    """Return what the library takes for a value of a request."""
    match value:
        case {"text": str(text), **rest}:
            return (text, rest["weight"]) if "weight" in rest else text
        case {"picture": str(path), **rest}:
            return (path, rest["weight"]) if "weight" in rest else path
        case list() if any(isinstance(one, dict) for one in value):
            return [_value(one) for one in value]
    return value
