"""Read what a task is asked about: texts and pictures, however they are given."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from unclip.errors import InputError
from unclip.pictures import open_pictures
from unclip.pipelines.settings import check_prompts


class Input(NamedTuple):
    """A text, or a picture that was opened."""

    name: str
    """The text, or the name of the picture's file."""
    picture: Image.Image | None = None

    @property
    def text(self) -> str:
        """The text; "" for a picture."""
        return self.name if self.picture is None else ""


TextOrPicture: TypeAlias = Image.Image | Path | str | np.ndarray | Input
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


def read_input(source: TextOrPicture) -> Input:
    """Read a picture or a text.

    A PIL image, an array and a path are pictures; so is a text that names an existing file, and any other is a text.
    An `Input` is what it says: a text in one never names a file.

    Raises `InputError` for a file that is no picture, for an empty text, and for a text that ends as the name of a
    picture does where there is no such file.
    """
    if isinstance(source, Input):
        return source
    if isinstance(source, Image.Image | np.ndarray):
        return Input("a picture", open_pictures(source)[0])
    if isinstance(source, Path) or (isinstance(source, str) and os.path.isfile(source)):
        return Input(Path(source).name, open_pictures(source)[0])
    (text,) = check_prompts([source])
    if text.lower().endswith(PICTURE_SUFFIXES):
        raise InputError(f"{text} is named like a picture, but there is no such file; give an existing one, or a text.")
    return Input(text)


def texts_and_pictures(
    kinds: Mapping[str, str | None], arguments: Mapping[str, Any]
) -> tuple[list[str], list[Image.Image]]:
    """Return the texts to be drawn and the pictures among the arguments of a task, by the `kinds` of its options.

    Masks are not drawn, and a negative prompt names what is not to be seen: neither is among them.
    """
    texts, pictures = list[str](), list[Image.Image]()
    for name, value in arguments.items():
        kind = kinds.get(name)
        if value is None or name == "negative_prompt":
            continue
        if kind == "text":
            texts += [value] if isinstance(value, str) else value
        elif kind == "picture":
            pictures += open_pictures(value)
        elif kind == "draft":
            texts += value.prompts
        elif kind in ("text or picture", "weighted parts"):
            several = value if isinstance(value, list) else [value]
            parts = [part[0] for part in value] if kind == "weighted parts" else several
            inputs = [read_input(part) for part in parts]
            texts += [one.text for one in inputs if one.picture is None]
            pictures += [one.picture for one in inputs if one.picture is not None]
    return texts, pictures
