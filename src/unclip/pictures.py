"""Pictures and masks that people give, made uniform or refused. Knows Pillow; no tensor, no range and no network."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

from unclip.errors import InputError

__all__ = ["MAX_PIXELS", "Picture", "mask_of_alpha", "on_white", "open_mask", "open_picture", "open_pictures"]

Picture = Image.Image | str | Path | np.ndarray

MAX_PIXELS = 2**27
"""The most pixels a picture may have (11,585 x 11,585): 400 MB in RGB, and less than where Pillow itself refuses."""

# Pillow reads these by running them.
PROGRAMS = ("EPS", "WMF")


def open_picture(source: Picture) -> Image.Image:
    """The picture as RGB, or as RGBA where it has transparency: upright, 8 bits a channel, in memory, without metadata.

    Of an animation it is the first frame. A picture of Pillow's stays as it is and a new one is returned. 16-bit greys
    become 8-bit ones; colours become sRGB, by the embedded profile if there is one. An array is (height, width), or
    with 1, 3 or 4 channels behind: 8-bit whole numbers, or floats in [0, 1]. Raises `InputError` for a file that is
    missing, damaged or no picture, and for one of no pixels or more than `MAX_PIXELS`, which is not decoded.
    """
    if isinstance(source, np.ndarray):
        source = _of_array(source)
    if isinstance(source, Image.Image):
        with _explained("the picture"):
            return _uniform(source, "the picture")
    if not isinstance(source, str | Path):
        raise InputError(f"a picture is a PIL image, a path or an array; found a {type(source).__name__}.")
    with _explained(source), Image.open(source) as image:
        return _uniform(image, source)


def open_pictures(images: Picture | Sequence[Picture]) -> list[Image.Image]:
    """One picture or several, each through `open_picture`; raises `InputError` also when there is none."""
    if isinstance(images, Image.Image | str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [open_picture(images)]
    given = list(images)
    if not given:
        raise InputError("no picture was given; give at least one.")
    return [open_picture(image) for image in given]


def open_mask(source: Picture, size: tuple[int, int]) -> Image.Image:
    """A mask for a picture of `size` (width, height): mode L, 255 where to repaint (white) and 0 where to keep.

    Greys, as soft edges have, go to the nearer of both; what is transparent is kept. Raises `InputError` for another
    size, for a picture in its place (more than a quarter of midtones) and for one whose brightest grey is still dark.
    """
    name = "the mask" if isinstance(source, Image.Image) else f"the mask {source}"
    picture = open_picture(source)
    if picture.size != size:
        raise InputError(f"{name} is {_times(picture.size)} pixels and the picture {_times(size)}; resize the mask.")
    grey = picture.convert("L")
    if picture.mode == "RGBA":
        grey = ImageChops.multiply(grey, picture.getchannel("A"))
    values = np.asarray(grey)
    if np.mean((values >= 32) & (values < 224)) > 0.25:
        raise InputError(f"{name} looks like a picture: more than a quarter of it is grey; paint white on black.")
    if 0 < values.max() < 128:
        raise InputError(f"{name} has no white: its brightest grey is {values.max()} of 255; make 255 what to repaint.")
    return _threshold(grey)


def mask_of_alpha(picture: Image.Image) -> Image.Image | None:
    """The mask that repaints what is more than half transparent; None where nothing is.

    `picture` is one of `open_picture`; the mask is as `open_mask` gives it.
    """
    if picture.mode != "RGBA":
        return None
    mask = _threshold(ImageOps.invert(picture.getchannel("A")))
    return mask if mask.getbbox() else None


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB, with white behind what is transparent."""
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def _of_array(pixels: np.ndarray) -> Image.Image:
    """The picture of an array; raises `InputError` where it is not clear what its numbers mean."""
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


def _uniform(image: Image.Image, name: str | Path) -> Image.Image:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise _wrong_size(name, _times(image.size))
    if image.format in PROGRAMS:
        raise UnidentifiedImageError
    upright = ImageOps.exif_transpose(image)
    picture = _to_srgb(_eight_bits(upright) if upright.mode[0] in "IF" else upright)
    picture.info = {}
    return picture


# White is 65535 in Pillow's integers, as it writes them to PNG; of floats, the least usual one that clips no pixel.
def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    white = 65535
    if image.mode == "F":
        white = next((usual for usual in (1, 255) if values.max() <= usual), white)
    return Image.fromarray(np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA, by the embedded profile where there is one that fits; a broken one counts as none."""
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    colours = image if image.mode in ("CMYK", "LAB") else image.convert(wanted)
    with suppress(ImageCms.PyCMSError):
        profile = _profile(image)
        if profile is not None:
            converted = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode=wanted)
            assert converted is not None
            return converted
    return colours.convert(wanted)


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """What the colours mean, where that is not sRGB; Pillow itself cannot convert LAB, whose meaning is fixed."""
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


def _threshold(grey: Image.Image) -> Image.Image:
    return grey.point([0] * 128 + [255] * 128)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
