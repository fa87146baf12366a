"""Drawing icons: from SVG to pixels on white. Knows resvg, not files and not shards."""

import io
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip.data._emoji import EmojiItem
from unclip.errors import DataError, DependencyError, InputError

__all__ = ["rasterize"]

Picture = UInt8[np.ndarray, "height width 3"]
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def rasterize(item: EmojiItem, image_size: int) -> Picture:
    """Draw `item` on white: uint8 (image_size, image_size, 3); an icon that is not square is centred.

    Raises `InputError` for a size below 1, `DependencyError` without resvg-py, `DataError` when the SVG is invalid.
    """
    if image_size < 1:
        raise InputError(f"image_size={image_size} is not a size; use 1 or more pixels.")
    svg = svg_document(item, image_size)
    try:
        png = _resvg().svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    except ValueError as error:
        raise DataError(f"cannot draw {item.key}: {error}; restore its SVG from the repository.") from None
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def svg_document(item: EmojiItem, image_size: int) -> str:
    """The item as a whole SVG file that is `image_size` pixels wide and high."""
    size = f'width="{image_size}" height="{image_size}" viewBox="0 0 {item.width} {item.height}"'
    return f"<svg {NAMESPACES} {size}>{item.body}</svg>"


def _resvg() -> ModuleType:
    try:
        import resvg_py
    except ImportError:
        raise DependencyError("drawing SVG needs resvg-py; run: pip install 'unclip[train]'") from None
    return resvg_py
