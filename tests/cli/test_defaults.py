"""What a command takes by default is what its task takes: `--help` shows it without importing torch."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from unclip import UnClip
from unclip.cli.image_to_image import image_to_image
from unclip.cli.inpaint import inpaint
from unclip.cli.interpolate import interpolate
from unclip.cli.outpaint import outpaint
from unclip.cli.variations import variations

TASK_NAMES = {"resamples": "num_resamples"}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(
    ("command", "task", "names"),
    [
        (variations, UnClip.image_variations, ["num_images", "eta", "exact", "prompt", "text_weight"]),
        (image_to_image, UnClip.image_to_image, ["num_images", "strength", "prompt"]),
        (interpolate, UnClip.interpolate, ["frames"]),
        (inpaint, UnClip.inpaint, ["num_images", "feather", "resamples", "prompt"]),
        (outpaint, UnClip.outpaint, ["num_images", "feather", "resamples", "left", "right", "top", "bottom", "window"]),
    ],
)
def test_defaults_agree(command: Callable[..., Any], task: Callable[..., Any], names: list[str]) -> None:
    typed, done = defaults(command), defaults(task)
    assert {name: typed[name] for name in names} == {name: done[TASK_NAMES.get(name, name)] for name in names}
