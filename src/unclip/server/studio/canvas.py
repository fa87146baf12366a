"""Canvases: brush over a part of a picture, and see how far it will go on beyond its borders."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

MAX_SHOWN = 512
"""Pixels of the longer side of a canvas that is only looked at."""
MAX_PIXELS = 2**24
"""Pixels of a picture that is decoded for a view."""
SQUARE = 8
"""Pixels of the squares that stand for what is not drawn yet."""
GREYS = (0x99, 0x77)


def make_mask_canvas(picture: Any) -> gr.ImageEditor:
    """Make a canvas over the picture of a component; its layers are what was brushed."""
    brush = gr.Brush(default_size="auto", colors=["#e0457b"], color_mode="fixed")
    editor = gr.ImageEditor(
        label="Brush over what shall be painted anew", type="pil", image_mode="RGBA", sources=(), transforms=(),
        layers=False, brush=brush, height=360, elem_id="mask",
    )  # fmt: skip
    picture.change(lambda path: path, picture, editor, show_progress="hidden", api_visibility="private")
    return editor


def brushed(value: dict[str, Any] | None, size: tuple[int, int]) -> Image.Image | None:
    """Return what was brushed as a mask of a picture's size, white where to paint; None where nothing was."""
    layers = [np.asarray(layer)[..., 3] > 0 for layer in (value or {}).get("layers", [])]
    if not any(layer.any() for layer in layers):
        return None
    mask = Image.fromarray(np.logical_or.reduce(layers).astype(np.uint8) * 255)
    # The canvas has the size that the page gives it.
    return mask.resize(size, Image.Resampling.NEAREST)


def make_border_canvas(picture: Any, sides: Sequence[Any]) -> gr.Image:
    """Make a view of a component's picture with what is added at its left, right, top and bottom."""
    view = gr.Image(label="What it will become", interactive=False, height=260, buttons=[], elem_id="canvas")
    options: Any = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    for one in (picture, *sides):
        one.change(show_borders, [picture, *sides], view, **options)
    return view


def show_borders(path: str | None, left: float, right: float, top: float, bottom: float) -> Image.Image | None:
    """Return a small view of the picture on a ground of squares that stand for what will be drawn."""
    if path is None:
        return None
    with Image.open(path) as original:
        if original.width * original.height > MAX_PIXELS:
            return None
        picture = original.convert("RGBA")
    width, height = (int(length) for length in (left + picture.width + right, top + picture.height + bottom))
    scale = min(MAX_SHOWN / max(width, height), 1.0)
    shape = max(round(width * scale), 1), max(round(height * scale), 1)
    rows, columns = np.indices(shape[::-1]) // SQUARE
    ground = Image.fromarray(np.where((rows + columns) % 2, *GREYS).astype(np.uint8)).convert("RGB")
    small = ImageOps.scale(picture, scale)
    ground.paste(small, (round(left * scale), round(top * scale)), small)
    return ground
