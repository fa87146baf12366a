"""Read pictures that clients send, choose sizes to draw, and write pictures as clients ask for them."""

import base64
import binascii
import math
import re

from PIL import Image, ImageOps

from unclip.errors import InputError
from unclip.images import QUALITY, encode_picture
from unclip.pictures import read_picture
from unclip.pipelines import ImageSize, Model, Result
from unclip.pipelines.job import shape_multiple
from unclip.server.errors import ApiError, refused

DATA_URL = re.compile(r"data:[\w./+-]*;base64,", re.ASCII)
MAX_ASPECT = 4
SUFFIXES = {"png": ".png", "jpeg": ".jpeg", "webp": ".webp", "gif": ".gif"}


def decode_base64(text: str, param: str) -> bytes:
    """Read base64, or a data URL of it; raises `ApiError` for anything else, such as the address of a picture."""
    match = DATA_URL.match(text)
    if match is None and re.match(r"[a-z][a-z0-9+.-]*:", text, re.IGNORECASE):
        raise refused(param, text, "is an address, and this server fetches nothing; send the picture itself as base64.")
    try:
        return base64.b64decode(text[match.end() if match else 0 :], validate=True)
    except (binascii.Error, ValueError):
        raise refused(param, text, "is not base64; send a picture's bytes in base64, or as a data URL.") from None


def read_upload(content: bytes, param: str, max_pixels: int) -> Image.Image:
    """Read a picture that was sent; raises `ApiError` for what is none, and for too many pixels, undecoded."""
    try:
        return read_picture(content, param, max_pixels)
    except InputError as error:
        raise ApiError(str(error), param=param, code="invalid_image") from None


def parse_size(text: str | None, max_pixels: int) -> tuple[int, int] | None:
    """Read WxH; None and "auto" are the model's own. Raises `ApiError` for what is none or cannot be drawn."""
    if text in (None, "auto"):
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text or "", re.ASCII)
    if match is None:
        raise refused("size", text, "is no size; write auto, or WIDTHxHEIGHT such as 1024x1024.")
    width, height = int(match[1]), int(match[2])
    if width * height > max_pixels or max(width, height) > MAX_ASPECT * min(width, height):
        raise refused("size", text, f"cannot be; at most {max_pixels} pixels, and sides of at most {MAX_ASPECT}:1.")
    return width, height


def drawn_size(model: Model, size: tuple[int, int]) -> ImageSize:
    """Choose what the model draws for a picture of `size`: its nearest size that is not smaller, or its largest.

    A shape other than a square is drawn as asked if the networks divide it and it has about the pixels of a square
    that they draw, else near such a square, a little more of it than the shape needs.
    """
    (width, height), sides = size, model.image_sizes
    if width == height:
        return next((side for side in sides if side >= width), sides[-1])
    nearest = min(sides, key=lambda side: abs(math.log(width * height / side**2)))
    multiple = shape_multiple(model, nearest)
    if width % multiple == height % multiple == 0 and width * height <= 2 * nearest**2:
        return size
    side = next((side for side in sides if side**2 >= width * height), sides[-1])
    multiple, scale = shape_multiple(model, side), side / math.sqrt(width * height)
    return tuple(max(round(length * scale / multiple), 1) * multiple for length in size)  # type: ignore[return-value]


def fit(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Scale a picture to exactly `size`; what its shape has too much of is cut off on both sides."""
    if size is None or picture.size == size:
        return picture
    return ImageOps.fit(picture, size, Image.Resampling.BICUBIC)


def write_preview(picture: Image.Image, form: str, compression: int | None) -> bytes:
    """Encode a preview as `output_format` and `output_compression` ask for, without marks and metadata."""
    return encode_picture(picture, SUFFIXES[form], quality=QUALITY if compression is None else compression)


def write_result(
    result: Result, size: tuple[int, int] | None, form: str, compression: int | None
) -> list[tuple[bytes, tuple[int, int]]]:
    """Encode all pictures of a result in `size`, each with the metadata to draw it again; returns their sizes too.

    A GIF is one animation of all.
    """
    pictures = [fit(picture, size) for picture in result.pictures()]
    if form == "gif":
        return [(result.encode_series(pictures), pictures[0].size)]
    quality = QUALITY if compression is None else compression
    return [
        (result.encode(picture, SUFFIXES[form], place, quality), picture.size) for place, picture in enumerate(pictures)
    ]
