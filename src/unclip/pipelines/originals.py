"""Pictures in their own mode, into which new pixels go while the others keep every bit. Knows Pillow; no stage."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageCms

from unclip.pictures import Picture, foreign_profile, open_original, open_picture, white_of

__all__ = ["insert", "open_editable", "recolour"]

# Palettes and two levels have no room for new colours; a wider mode has the same ones.
WIDER: Mapping[tuple[str, bool], str] = {
    ("1", False): "L",
    ("1", True): "LA",
    ("P", False): "RGB",
    ("P", True): "RGBA",
    ("PA", True): "RGBA",
}
DEEP = ("I;16", "I", "F")
COLOURS = ("RGB", "RGBA", "CMYK")
KEPT = ("L", "LA", *COLOURS, *DEEP)


def open_editable(source: Picture) -> Image.Image:
    """The picture upright in a mode that new pixels can be written to, every pixel as it was.

    That is its own mode for greys of 8 bits and more, RGB and CMYK, with or without alpha, with its colour profile and
    its transparent colour; RGB, RGBA, L or LA for palettes and for black and white; and what `open_picture` gives for
    the rest, and where a profile leads one way only. Raises `InputError` as `open_picture`.
    """
    original = open_original(source)
    if original.mode.startswith("I;16"):
        return _with_info(Image.fromarray(np.asarray(original).astype(np.uint16)), original)
    mode = WIDER.get((original.mode, original.has_transparency_data), original.mode)
    widened = original if mode == original.mode else original.convert(mode)
    if mode not in KEPT:
        return open_picture(original)
    return widened if mode in DEEP or _is_reversible(widened) else open_picture(original)


def recolour(pixels: Image.Image, original: Image.Image) -> Image.Image:
    """RGB pixels in the mode and colours of an `open_editable` picture: opaque, none of them its transparent colour."""
    if original.mode in DEEP:
        values = np.asarray(pixels.convert("L"), dtype=np.float32) * (white_of(original) / 255)
        deep = values if original.mode == "F" else np.rint(values).astype(np.asarray(original).dtype)
        return _off_the_key(Image.fromarray(deep), original)
    profile = foreign_profile(original) if original.mode in COLOURS else None
    if profile is not None:
        ink = "CMYK" if original.mode == "CMYK" else "RGB"
        converted = ImageCms.profileToProfile(pixels, ImageCms.createProfile("sRGB"), profile, outputMode=ink)
        assert converted is not None
        pixels = converted
    return _off_the_key(pixels.convert(original.mode), original)


def insert(original: Image.Image, window: Image.Image, hole: Image.Image, corner: tuple[int, int]) -> Image.Image:
    """A copy of an `open_editable` picture with RGB pixels at `corner` where `hole` is white."""
    copy = original.copy()
    copy.paste(recolour(window, original), corner, hole.convert("1"))
    return copy


def _is_reversible(picture: Image.Image) -> bool:
    """Whether sRGB can be brought into the picture's colours; a broken profile counts as none and is taken off."""
    try:
        if picture.mode in COLOURS:
            foreign_profile(picture)
    except ImageCms.PyCMSError:
        del picture.info["icc_profile"]
    try:
        recolour(Image.new("RGB", (1, 1)), picture)
    except ImageCms.PyCMSError:
        return False
    return True


# A pixel one level beside the transparent colour is not seen to be; one of that colour would be a hole.
def _off_the_key(pixels: Image.Image, original: Image.Image) -> Image.Image:
    key = original.info.get("transparency")
    if not isinstance(key, int | tuple):
        return pixels
    values, levels = np.array(pixels), np.atleast_1d(key)
    channels = values if values.ndim == 3 else values[..., None]
    if channels.shape[-1] == len(levels):
        channels[(channels == levels).all(axis=-1), -1] = levels[-1] - 1 if levels[-1] > 0 else 1
    return Image.fromarray(values)


def _with_info(picture: Image.Image, original: Image.Image) -> Image.Image:
    picture.info = dict(original.info)
    return picture
