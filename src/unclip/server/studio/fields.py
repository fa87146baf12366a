"""Widgets for the options of a task, and what they say as the fields of a request."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gradio as gr
from PIL import Image

from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS, DrawOptions, Option
from unclip.server.errors import ApiError, refused
from unclip.server.pictures import write_preview
from unclip.server.studio.canvas import brushed, make_border_canvas, make_mask_canvas
from unclip.server.tasks import NOT_SENT

TITLES = {
    "prompts": "Prompt", "num_images": "Pictures", "num_candidates": "Candidates", "negative_prompt": "Not",
    "image_size": "Size", "num_steps": "Steps", "guidance_scale": "Guidance", "a": "From", "b": "To",
    "source": "It shows", "target": "It shall show", "theta": "How far", "num_resamples": "Resamples", "size": "Side",
    "eta": "Noise of its own", "images": "Picture", "image": "Picture", "num_components": "Components",
}  # fmt: skip
"""What widgets are called where the option's own name would not do."""
NOT_SHOWN = (*NOT_SENT, "batch_size", "basis", "mask_kind")
MAIN = ("image_size", "seed")
"""Options of all tasks that are not folded away."""
FOLDED = (
    "num_candidates", "best_of", "negative_prompt", "exact", "text_weight", "feather", "num_resamples", "window",
    "aspect", *(name for name in DrawOptions.__annotations__ if name not in MAIN),
)  # fmt: skip
CLEAR = ("num_images", "prompts", "images", "image")
"""Options whose title says it all."""
USUAL = {"theta": "0, 0.15, 0.3, 0.45, 0.6", "frames": 7, "num_components": "1, 4, 16"}
"""What widgets begin with instead of the option's default: several pictures, for the dial to move through."""
SLIDERS = {
    "num_images": (16, 1), "frames": (64, 1), "left": (512, 8), "right": (512, 8), "top": (512, 8), "bottom": (512, 8),
    "strength": (1, 0.05), "text_weight": (1, 0.05), "num_resamples": (16, 1), "feather": (32, 1),
}  # fmt: skip
"""Options with a slider, its end and its step; a request may go further."""
BORDERS = ("left", "right", "top", "bottom")
NUM_PARTS = 3
SHAPES = ("1:1", "4:3", "3:4", "16:9", "9:16")
FILE: Any = {"image_mode": None, "type": "filepath", "format": "png", "sources": ["upload", "clipboard"]}
"""Pictures arrive as files that lost nothing."""
Component: TypeAlias = Any
"""One of gradio's, whose types say little."""


@dataclass(frozen=True)
class Widget:
    """What stands for one option: its components, and the value that they say, None where that is the default."""

    name: str
    components: Sequence[Component]
    read: Callable[..., Any]


class Form(NamedTuple):
    """The widgets of a task, in the order of the page."""

    task: str
    widgets: Sequence[Widget]

    @property
    def components(self) -> list[Component]:
        """All components; `body` takes their values in this order."""
        return [component for widget in self.widgets for component in widget.components]

    @property
    def picture(self) -> gr.Image:
        """The component of the picture that the task begins with, for tasks that begin with one."""
        return next(one for one in self.components if isinstance(one, gr.Image))

    def body(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the fields of a request for `/v1/tasks`; raises `ApiError` for what cannot be read."""
        body, rest = {}, list(values)
        for widget in self.widgets:
            own, rest = rest[: len(widget.components)], rest[len(widget.components) :]
            if (value := widget.read(*own)) is not None:
                body[widget.name] = value
        return body


def make_form(task: str, pipe: UnClip) -> Form:
    """Place the widgets of a task: what it needs, and folded away what it can do without."""
    options = [option for option in TASKS[task].options if option.name not in NOT_SHOWN]
    shown = [option for option in options if option.name not in FOLDED]
    widgets = [_place(option, pipe) for option in shown if option.name not in MAIN and option.kind != "mask"]
    for option in options:
        if option.kind == "mask":
            (picture,) = next(one for one in widgets if one.name == "image").components
            widgets.append(_mask(option, picture))
    if all(name in {option.name for option in options} for name in BORDERS):
        picture, *sides = (next(one for one in widgets if one.name == name) for name in ("image", *BORDERS))
        make_border_canvas(picture.components[0], [one for side in sides for one in side.components])
    with gr.Row():
        widgets += [_place(option, pipe) for option in shown if option.name in MAIN]
    with gr.Accordion("More settings", open=False):
        widgets += [_place(option, pipe) for option in options if option.name in FOLDED]
    return Form(task, widgets)


def _place(option: Option, pipe: UnClip) -> Widget:
    """Make the widget of one option."""
    label = title_of(option.name)
    words: Any = {"label": label, "info": None if option.name in CLEAR else option.help}
    name, is_needed = option.name, option.default is Parameter.empty
    if name == "preset":
        return Widget(name, [gr.Dropdown(["", *pipe.presets], value="", **words)], _word)
    if name == "background":
        choices = ["", "white", *(["transparent"] if pipe.channels == 4 else [])]
        return Widget(name, [gr.Dropdown(choices, value="", allow_custom_value=True, **words)], _word)
    if name == "image_size":
        choices = ["", *map(str, pipe.image_sizes)]
        return Widget(name, [gr.Dropdown(choices, value="", allow_custom_value=True, **words)], _size)
    if option.is_per_stage:
        return _per_stage(option, label, pipe)
    if option.kind == "picture":
        return Widget(
            name, [gr.Image(label=label, height=220, **FILE)], _needed_picture(label) if is_needed else _picture
        )
    if option.kind == "text or picture":
        text = gr.Textbox(label=label, info=f"{option.help} A text, or a picture below.", lines=1)
        picture = gr.Image(label=f"{label}: a picture", **FILE, height=160)
        return Widget(name, [text, picture], _text_or_picture(name))
    if option.kind == "weighted parts":
        return _parts(name)
    if option.kind == "size":
        return Widget(name, [gr.Dropdown(["", *SHAPES], value="", allow_custom_value=True, **words)], _shape)
    if option.kind == "boolean":
        return Widget(name, [gr.Checkbox(value=bool(option.default), **words)], lambda value: bool(value))
    if option.choices:
        return Widget(name, [gr.Dropdown(["", *option.choices], value="", **words)], _word)
    if option.kind in ("integer", "number"):
        return _number(option, words)
    return Widget(name, [gr.Textbox(lines=1, max_lines=4, **words)], _needed(label) if is_needed else _word)


def _number(option: Option, words: Any) -> Widget:
    """Make a slider for a few values, else a line of text for one number or several; empty is the default."""
    name, least = option.name, option.least
    convert: type = int if option.kind == "integer" else float
    usual: Any = USUAL.get(name, option.default)
    if name in SLIDERS:
        most, step = SLIDERS[name]
        return Widget(name, [gr.Slider(least or 0, most, value=usual, step=step, **words)], convert)
    if option.takes_several and name != "seed":
        return Widget(name, [gr.Textbox(value=usual, **words)], _numbers(name, convert))
    field = gr.Textbox(value="" if usual in (None, Parameter.empty) else str(usual), max_lines=1, min_width=80, **words)
    return Widget(name, [field], _one_number(name, convert))


def _per_stage(option: Option, label: str, pipe: UnClip) -> Widget:
    """Make a field for each stage; those left empty have the model's own value."""
    stages = [name for name in pipe.stages if option.name != "guidance_scale" or not name.startswith("upsampler")]
    convert: type = {"integer": int, "number": float}.get(option.kind or "", str)
    fields: list[Component] = []
    with gr.Row():
        for name in stages:
            words: Any = {"label": f"{label}: {name.replace('_', ' ')}", "min_width": 100}
            usual = getattr(pipe.stages[name].defaults, option.name)
            if option.choices:
                fields.append(gr.Dropdown([(usual, ""), *option.choices], value="", **words))
            else:
                fields.append(gr.Textbox(placeholder=f"{usual:g}", max_lines=1, **words))

    def read(*texts: str | None) -> dict[str, Any] | None:
        reads: Any = _word if convert is str else _one_number(option.name, convert)
        values = {name: reads(text) for name, text in zip(stages, texts, strict=True)}
        return {name: value for name, value in values.items() if value is not None} or None

    return Widget(option.name, fields, read)


def _parts(name: str) -> Widget:
    """Make rows of a text or a picture, and a weight."""
    components: list[Component] = []
    for number in range(1, NUM_PARTS + 1):
        with gr.Group():
            components.append(gr.Textbox(label=f"Part {number}: a text", lines=1))
            components.append(gr.Image(label=f"Part {number}: or a picture", **FILE, height=120))
            components.append(gr.Slider(0, 2, value=1, step=0.05, label=f"Part {number}: weight"))

    def read(*values: Any) -> list[dict[str, Any]]:
        parts = []
        for text, path, weight in (values[first : first + 3] for first in range(0, len(values), 3)):
            if text or path is not None:
                parts.append({**_text_or_picture(name)(text, path), "weight": float(weight)})
        if not parts:
            raise ApiError("there is nothing to mix; write a text, or choose a picture, in at least one part.")
        return parts

    return Widget(name, components, read)


def _mask(option: Option, picture: Component) -> Widget:
    """Make a canvas to brush over the picture, and room for a mask from elsewhere."""
    canvas = make_mask_canvas(picture)
    file = gr.Image(label="Or a mask: white where to paint", height=120, **FILE)

    def read(drawn: dict[str, Any] | None, mask_path: str | None, path: str | None) -> str | None:
        if mask_path is not None or path is None:
            return _picture(mask_path)
        with Image.open(path) as original:
            mask = brushed(drawn, original.size)
        return None if mask is None else _encode(write_preview(mask, "png", None))

    return Widget(option.name, [canvas, file, picture], read)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _picture(path: str | None) -> str | None:
    return None if path is None else _encode(Path(path).read_bytes())


def _needed_picture(label: str) -> Callable[[str | None], str]:
    def read(path: str | None) -> str:
        if path is None:
            raise ApiError(f"{label} is missing; choose one.")
        return _encode(Path(path).read_bytes())

    return read


def _text_or_picture(name: str) -> Callable[[str, str | None], dict[str, Any]]:
    def read(text: str | None, path: str | None) -> dict[str, Any]:
        if path is not None and text and text.strip():
            raise refused(name, text, "has a text and a picture; leave one of both out.")
        if path is None and not (text and text.strip()):
            raise ApiError(f"{TITLES.get(name, name)} is empty; write a text there, or choose a picture.")
        return {"text": text} if path is None else {"picture": _picture(path)}

    return read


def title_of(name: str) -> str:
    """Return what the widget of an option is called."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def _word(text: str | None) -> str | None:
    return text.strip() or None if text else None


def _needed(label: str) -> Callable[[str | None], str]:
    def read(text: str | None) -> str:
        if not (text and text.strip()):
            raise ApiError(f"{label} is empty; write something there.")
        return text.strip()

    return read


def _size(text: str | None) -> int | list[int] | None:
    """Read a side, or WIDTHxHEIGHT."""
    return _pair("image_size", text, "x", "a side such as 256, or WIDTHxHEIGHT such as 384x256")


def _shape(text: str | None) -> int | list[int] | None:
    return _pair("aspect", text, ":", "WIDTH:HEIGHT, such as 16:9")


def _pair(name: str, text: str | None, separator: str, example: str) -> int | list[int] | None:
    words = (text or "").lower().replace("×", "x").split(separator)
    if words == [""]:
        return None
    if not all(word.strip().isdecimal() for word in words) or len(words) > 2:
        raise refused(name, text, f"cannot be read; write {example}.")
    numbers = [int(word) for word in words]
    return numbers if len(numbers) == 2 else numbers[0]


def _one_number(name: str, convert: type) -> Callable[[str], Any]:
    def read(text: str | None) -> Any:
        try:
            return convert(text.strip()) if text and text.strip() else None
        except ValueError:
            kind = "whole number" if convert is int else "number"
            raise refused(name, text, f"is no {kind}; write one, or nothing for the usual.") from None

    return read


def _numbers(name: str, convert: type) -> Callable[[str], list[Any] | None]:
    def read(text: str | None) -> list[Any] | None:
        try:
            return [convert(word) for word in text.split(",")] if text and text.strip() else None
        except ValueError:
            raise refused(name, text, "cannot be read; write numbers such as 0, 0.25, 0.5.") from None

    return read
