"""Read the pictures that users give (files, PIL pictures, arrays) as plain RGB or RGBA, or refuse them."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from unclip.errors import InputError

Picture = Image.Image | str | Path | np.ndarray

MAX_PIXELS = 2**27
"""The most pixels a picture may have (11,585 x 11,585): 400 MB in RGB, and less than where Pillow itself refuses."""

# Pillow reads these by running them.
PROGRAMS = ("EPS", "WMF")
# Those that Pillow itself converts to RGB as they are meant.
PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of TIFF's types, those of whole numbers, and how they are read.
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "L"}

PNG = b"\x89PNG\r\n\x1a\n"
PNG_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Texts of a PNG that may hold its orientation."""
WEBP_METADATA = 0b1100
"""The flags of a WebP for EXIF and XMP."""
MAX_PROFILE = 2**26
SHORTEST_KEY = {0: 2, 2: 6}
"""Bytes of a transparent colour by the PNG's type: grey, colour."""
# A transparent colour of 2 or 4 bits is compared with pixels that Pillow has scaled to 8; of 16 it keeps the upper 8.
SCALED_KEYS = {"L;2": 85.0, "L;4": 17.0, "RGB;16B": 1 / 256}


def open_picture(source: Picture) -> Image.Image:
    """Read a picture as RGB, or RGBA if it has transparency: upright, 8 bits a channel, in memory, without metadata.

    Of an animation the first frame is read. A PIL picture is not changed; a new one is returned. 16-bit greys become
    8-bit ones; colours become sRGB, by the embedded profile if there is one. Of metadata the orientation alone is used:
    damaged or oversized metadata do not prevent reading. An array is (height, width), or with 1, 3 or 4 channels
    behind: 8-bit whole numbers, or floats in [0, 1]. Raises `InputError` for a file that is missing, damaged or no
    picture, and for one of no pixels or more than `MAX_PIXELS`, which is not decoded.
    """
    original = open_original(source)
    with _explained("the picture" if isinstance(source, Image.Image | np.ndarray) else source):
        return _convert(original)


def open_original(source: Picture) -> Image.Image:
    """Read a picture in its own mode, with its colour profile and its transparent colour; the rest as `open_picture`.

    `open_picture` gives the same colours for the result as for `source`.
    """
    if isinstance(source, np.ndarray):
        source = _of_array(source)
    if isinstance(source, Image.Image):
        with _explained("the picture"):
            return _upright(source, "the picture")
    if isinstance(source, str | Path):
        with _explained(source), open(source, "rb") as file:
            return _read(file, source)
    raise InputError(f"a picture is a PIL image, a path or an array; found a {type(source).__name__}.")


def read_picture(content: bytes, name: str | Path = "the picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the picture in the bytes of a file, as `open_picture` does; errors begin with `name`."""
    with _explained(name):
        return _convert(_read(io.BytesIO(content), name, max_pixels))


def open_pictures(images: Picture | Sequence[Picture]) -> list[Image.Image]:
    """Read one picture or several, each by `open_picture`; raises `InputError` also for none."""
    if isinstance(images, Image.Image | str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [open_picture(images)]
    pictures = [open_picture(image) for image in images]
    if not pictures:
        raise InputError("no picture was given; give at least one.")
    return pictures


def on_white(picture: Image.Image) -> Image.Image:
    """Convert a picture to RGB, with white behind transparency."""
    return on_colour(picture, (255, 255, 255))


def on_colour(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Convert a picture to RGB, with `colour` behind transparency."""
    if picture.mode not in PLAIN_MODES:
        picture = _convert(picture)
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture.convert("RGBA"))
    return picture.convert("RGB")


def coverage_of(picture: Image.Image) -> Image.Image:
    """Return the alpha of a picture in mode L: 255 where it is opaque, everywhere if it has no transparency."""
    if picture.mode not in PLAIN_MODES:
        picture = _convert(picture)
    if picture.has_transparency_data:
        return picture.convert("RGBA").getchannel("A")
    return Image.new("L", picture.size, 255)


def white_and_coverage(picture: Image.Image) -> list[Image.Image]:
    """Return a picture as RGB on white and its coverage (L): layers that may be scaled each alone.

    Scaled together, Pillow would weigh the colours by alpha, and the white ground would be counted twice.
    """
    return [on_white(picture), coverage_of(picture)]


def _of_array(pixels: np.ndarray) -> Image.Image:
    """Make a picture of an array; raises `InputError` if the meaning of its numbers is unclear."""
    shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)) or 0 in shape:
        raise InputError(
            f"an array of shape {pixels.shape} is no picture; give (height, width), or with 1, 3 or 4 channels behind."
        )
    if np.issubdtype(pixels.dtype, np.floating) and pixels.min() >= 0.0 and pixels.max() <= 1.0:
        pixels = np.rint(pixels * 255.0).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(
            f"an array of pixels holds 8-bit whole numbers, or floats in [0, 1]; found {pixels.dtype} from "
            f"{pixels.min():g} to {pixels.max():g}."
        )
    return Image.fromarray(pixels.reshape(shape))


def _convert(image: Image.Image) -> Image.Image:
    """Convert to RGB or RGBA of 8 bits in sRGB, by the embedded profile if there is a valid one."""
    if image.mode[0] in "IF":
        key, pixels, white = image.info.get("transparency"), np.asarray(image), white_of(image)
        values = np.nan_to_num(pixels.astype(np.float32)).clip(0, white)
        image = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
        if isinstance(key, int):
            image = Image.merge("LA", (image, Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8))))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    picture = image if image.mode in ("CMYK", "LAB") else image.convert(mode)
    with suppress(ImageCms.PyCMSError):
        profile = foreign_profile(image)
        if profile is not None:
            srgb = ImageCms.createProfile("sRGB")
            picture = cast(Image.Image, ImageCms.profileToProfile(picture, profile, srgb, outputMode=mode))
    picture = picture.convert(mode)
    picture.info = {}
    return picture


def _read(file: io.BytesIO | io.BufferedReader, name: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    try:
        with Image.open(file) as image:
            return _upright(image, name, max_pixels)
    except (InputError, Image.DecompressionBombError):
        raise
    except Exception:
        # Pillow refuses a whole PNG for a text or a profile of more than a megabyte, or a wrong checksum of either, and
        # a WebP whose metadata, which come last, are cut off.
        file.seek(0)
        head = file.read(12)
        if head.startswith(PNG):
            file.seek(len(PNG))
            pixels, info = _png_pixels(file.read())
        elif head[:4] + head[8:] == b"RIFFWEBP":
            pixels, info = _webp_pixels(file.read())
        else:
            raise
    with Image.open(pixels) as image:
        image.info.update(info)
        return _upright(image, name, max_pixels)


def _png_pixels(chunks: bytes) -> tuple[io.BytesIO, dict[str, bytes]]:
    """Keep the chunks of a PNG (without its signature) for pixels and orientation; returns also its colour profile."""
    kept, info, start = [PNG], dict[str, bytes](), 0
    while start < len(chunks):
        (length,) = struct.unpack(">I", chunks[start : start + 4].ljust(4, b"\0"))
        kind, data = chunks[start + 4 : start + 8], chunks[start + 8 : start + 8 + length]
        whole, start = chunks[start : start + 12 + length], start + 12 + length
        if kind == b"iCCP":
            with suppress(zlib.error):
                profile = data.partition(b"\0")[2][1:]
                info["icc_profile"] = zlib.decompressobj().decompress(profile, MAX_PROFILE)
        elif kind == b"eXIf" or (kind == b"tEXt" and data.startswith(PNG_ORIENTATION)):
            kept.append(whole[:-4] + struct.pack(">I", zlib.crc32(kind + data)))
        elif kind[:1].isupper() or (kind == b"tRNS" and length >= SHORTEST_KEY.get(chunks[17], 0)):
            kept.append(whole)
    return io.BytesIO(b"".join(kept)), info


def _webp_pixels(chunks: bytes) -> tuple[io.BytesIO, dict[str, bytes]]:
    """Take EXIF and XMP out of a WebP (from its first chunk on); returns also as much of its EXIF as exists."""
    kept, info, start = [b"WEBP"], dict[str, bytes](), 0
    while start + 8 <= len(chunks):
        kind, length = struct.unpack_from("<4sL", chunks, start)
        end = start + 8 + length + length % 2
        if kind == b"EXIF":
            info["exif"] = chunks[start + 8 : start + 8 + length]
        elif kind == b"VP8X":
            flags = chunks[start + 8] & ~WEBP_METADATA
            kept.append(chunks[start : start + 8] + bytes([flags]) + chunks[start + 9 : end])
        elif kind != b"XMP ":
            kept.append(chunks[start:end])
        start = end
    body = b"".join(kept)
    return io.BytesIO(b"RIFF" + struct.pack("<L", len(body)) + body), info


def _upright(image: Image.Image, name: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    if not 0 < image.width * image.height <= max_pixels:
        raise _wrong_size(name, f"{image.width} x {image.height}", max_pixels)
    if image.format in PROGRAMS:
        raise UnidentifiedImageError
    # Pillow keeps a transparent colour in the depth of the file, which is known until the pixels are loaded.
    raw = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    scale, colour = SCALED_KEYS.get(raw) if isinstance(raw, str) else None, image.info.get("transparency")
    image.load()
    method = UPRIGHT.get(_orientation(image))
    upright = image.copy() if method is None else image.transpose(method)
    if scale is not None and isinstance(colour, int):
        upright.info["transparency"] = round(colour * scale)
    elif scale is not None and isinstance(colour, tuple):
        upright.info["transparency"] = tuple(int(value * scale) for value in colour)
    upright.info = {key: upright.info[key] for key in ("icc_profile", "transparency") if key in upright.info}
    return upright


def _orientation(image: Image.Image) -> int:
    """Read the orientation (1: upright) by Pillow, or from the first EXIF directory if other metadata prevent it."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # on damaged bytes, it fails in many ways
        value = None
    if isinstance(value, int) and 1 <= value <= len(UPRIGHT) + 1:
        return value
    exif = re.sub(rb"\A(Exif\0\0)+", b"", image.info.get("exif") or b"")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is not None:
            (start,) = struct.unpack_from(f"{order}L", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, start)
            for place in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind = struct.unpack_from(f"{order}HH", exif, place)
                if tag == ORIENTATION and kind in WHOLE_NUMBERS:
                    return int(struct.unpack_from(f"{order}{WHOLE_NUMBERS[kind]}", exif, place + 8)[0])
    except struct.error:  # the directory is cut off
        pass
    return 1


def white_of(image: Image.Image) -> int:
    """Return the value of white in a picture of more than 8 bits: 65535 in Pillow's integers, as it writes PNG.

    For floats it is the least usual value that clips no pixel.
    """
    if image.mode != "F":
        return 65535
    brightest = np.nan_to_num(np.asarray(image)).max()
    return next((usual for usual in (1, 255) if brightest <= usual), 65535)


def foreign_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """Return the profile of colours other than sRGB; for LAB a fixed one, which Pillow does not convert by itself.

    Raises `ImageCms.PyCMSError` for a broken profile.
    """
    embedded = image.info.get("icc_profile")
    if not embedded:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")) if image.mode == "LAB" else None
    profile = ImageCms.getOpenProfile(io.BytesIO(embedded))
    return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile


@contextmanager
def _explained(name: str | Path) -> Iterator[None]:
    """Turn what Pillow raises into an `InputError`; its warnings, as of damaged metadata, are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        # Raised on opening, so the size is unknown; the first number of the message is that of its pixels.
        raise _wrong_size(name, next(iter(re.findall(r"\d+", str(error))), "too many")) from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture that can be read; give PNG, JPEG or WebP.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name} cannot be read ({reason}); give the path of a whole picture.") from None
    except Exception as error:  # on damaged bytes, decoders fail in many ways
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{name} cannot be read ({reason}); save it again as PNG.") from None


def _wrong_size(name: str | Path, size: str, max_pixels: int = MAX_PIXELS) -> InputError:
    return InputError(f"{name} has {size} pixels; a picture has 1 to {max_pixels}: resize it.")
