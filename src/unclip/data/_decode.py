"""From the bytes of a picture file to RGB pixels. Knows `unclip.pictures`; no set."""

from PIL import Image

from unclip.errors import DataError, InputError
from unclip.pictures import on_white, read_picture

__all__ = ["decode_picture"]


def decode_picture(content: bytes) -> Image.Image:
    """The picture as RGB: upright, 8 bits, sRGB, white behind transparency, by the rules of `unclip.pictures`.

    Raises `DataError` with the reason for bytes that are damaged or no picture, and for too many pixels.
    """
    try:
        return on_white(read_picture(content))
    except InputError as error:
        raise DataError(str(error).partition(";")[0].removeprefix("the picture is ")) from None
