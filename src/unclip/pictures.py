"""Pictures that people give, made uniform or refused. Knows Pillow; no tensor, no range and no network."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from unclip.errors import InputError

__all__ = [
    "MAX_PIXELS",
    "Picture",
    "foreign_profile",
    "on_white",
    "open_original",
    "open_picture",
    "open_pictures",
    "white_of",
]

Picture = Image.Image | str | Path

MAX_PIXELS = 2**27
"""The most pixels a picture may have (11,585 x 11,585): 400 MB in RGB, and less than where Pillow itself refuses."""

# Pillow reads these by running them.
PROGRAMS = ("EPS", "WMF")
# Those that Pillow itself converts to RGB as they are meant.
PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def open_picture(source: Picture) -> Image.Image:
    """The picture as RGB, or as RGBA where it has transparency: upright, 8 bits a channel, in memory, without metadata.

    Of an animation it is the first frame. A picture of Pillow's stays as it is and a new one is returned. 16-bit greys
    become 8-bit ones; colours become sRGB, by the embedded profile if there is one. Raises `InputError` for a file that
    is missing, damaged or no picture, and for one of no pixels or more than `MAX_PIXELS`, which is not decoded.
    """
    original = open_original(source)
    with _explained(_name(source)):
        return _convert(original)


def open_original(source: Picture) -> Image.Image:
    """The same picture in its own mode, with its colour profile and its transparent colour; the rest as `open_picture`.

    That gives the same colours of what is returned here as of `source`.
    """
    if isinstance(source, Image.Image):
        with _explained("the picture"):
            return _upright(source, "the picture")
    if not isinstance(source, str | Path):
        raise InputError(f"a picture is a PIL image or a path; found a {type(source).__name__}.")
    with _explained(source), Image.open(source) as image:
        return _upright(image, source)


def open_pictures(images: Picture | Sequence[Picture]) -> list[Image.Image]:
    """One picture or several, each through `open_picture`; raises `InputError` also when there is none."""
    given = [images] if isinstance(images, Image.Image | str | Path) else list(images)
    if not given:
        raise InputError("no picture was given; give at least one.")
    return [open_picture(image) for image in given]


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB, with white behind what is transparent."""
    if picture.mode not in PLAIN_MODES:
        picture = _convert(picture)
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def _convert(image: Image.Image) -> Image.Image:
    """RGB or RGBA of 8 bits in sRGB."""
    picture = _to_srgb(_eight_bits(image) if image.mode[0] in "IF" else image)
    picture.info = {}
    return picture


def _upright(image: Image.Image, name: str | Path) -> Image.Image:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise _wrong_size(name, _times(image.size))
    if image.format in PROGRAMS:
        raise UnidentifiedImageError
    upright = ImageOps.exif_transpose(image)
    upright.info = {key: upright.info[key] for key in ("icc_profile", "transparency") if key in upright.info}
    return upright


def white_of(image: Image.Image) -> int:
    """What white is in a picture of more than 8 bits: 65535 in Pillow's integers, as it writes them to PNG.

    Of floats it is the least usual one that clips no pixel.
    """
    if image.mode != "F":
        return 65535
    brightest = np.nan_to_num(np.asarray(image)).max()
    return next((usual for usual in (1, 255) if brightest <= usual), 65535)


def _eight_bits(image: Image.Image) -> Image.Image:
    values, white = np.nan_to_num(np.asarray(image, dtype=np.float32)), white_of(image)
    return Image.fromarray(np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA, by the embedded profile where there is one that fits; a broken one counts as none."""
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    colours = image if image.mode in ("CMYK", "LAB") else image.convert(wanted)
    with suppress(ImageCms.PyCMSError):
        profile = foreign_profile(image)
        if profile is not None:
            converted = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode=wanted)
            assert converted is not None
            return converted
    return colours.convert(wanted)


def foreign_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """What the colours mean, where that is not sRGB; Pillow itself cannot convert LAB, whose meaning is fixed.

    Raises `ImageCms.PyCMSError` for a profile that is broken.
    """
    embedded = image.info.get("icc_profile")
    if not embedded:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")) if image.mode == "LAB" else None
    profile = ImageCms.getOpenProfile(io.BytesIO(embedded))
    return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile


@contextmanager
def _explained(name: str | Path) -> Iterator[None]:
    """What Pillow raises becomes an `InputError`; what it warns of, as damaged metadata, does not matter here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        # Raised on opening, so the picture cannot be asked; the first number of the message is that of its pixels.
        raise _wrong_size(name, next(iter(re.findall(r"\d+", str(error))), "too many")) from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture that can be read; give PNG, JPEG or WebP.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name} cannot be read ({reason}); give a whole picture that is there.") from None
    except Exception as error:  # on damaged bytes, decoders fail in many ways
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{name} cannot be read ({reason}); save it again as PNG.") from None


def _wrong_size(name: str | Path, found: str) -> InputError:
    return InputError(f"{name} has {found} pixels; a picture has 1 to {MAX_PIXELS}: resize it.")


def _name(source: Picture) -> str:
    return "the picture" if isinstance(source, Image.Image) else str(source)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
