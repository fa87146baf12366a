"""Say which options draw a picture of a request again."""

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
    sizes = [option.name for option in TASKS[task].options if option.kind == "size" and option.name in options]
    options |= {name: tuple(options[name]) for name in sizes if isinstance(options[name], list)}
    return options | ({"seed": seed} if "seed" in usual else {})


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
