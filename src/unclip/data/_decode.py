"""From the bytes of a picture file to RGB pixels. Knows `unclip.pictures`; no set."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from unclip.errors import DataError, InputError
from unclip.pictures import on_white, open_picture

__all__ = ["decode_picture"]


def decode_picture(content: bytes) -> Image.Image:
    """The picture as RGB: upright, 8 bits, sRGB, white behind transparency, by the rules of `unclip.pictures`.

    Raises `DataError` with the reason for bytes that are damaged or no picture, and for too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Image.open(io.BytesIO(content))
        with file:
            return on_white(open_picture(file))
    except InputError as error:
        raise DataError(str(error).partition(";")[0]) from None
    except UnidentifiedImageError:
        raise DataError("not a picture that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture cannot be read ({error})") from None
