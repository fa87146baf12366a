"""Masks: what people give is read; pictures of which a part is unknown are resized, and joined with what was painted.

Knows pictures and tensors; no stage.
"""

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from unclip.errors import InputError, did_you_mean
from unclip.images import resize
from unclip.pictures import Picture, open_picture
from unclip.shapes import Images

__all__ = [
    "Mask",
    "MaskKind",
    "MaskPicture",
    "join",
    "mask_of_alpha",
    "open_mask",
    "resize_known",
    "resize_mask",
    "soft_edge",
]

MaskKind = Literal["white", "alpha"]
"""What a mask marks a hole by: what is white in it, or what is transparent."""
# Levels of 255 that one colour may vary by, as lossy WebP makes it.
ONE_COLOUR = 16
# The least alpha of what is not part of a soft edge.
SOLID = 250

Mask = Float[Tensor, "1 1 _height _width"]
"""1 where something is to be painted, 0 where a picture stays."""


class MaskPicture(NamedTuple):
    """A mask that was read."""

    image: Image.Image
    """Mode L: 255 where to repaint, 0 where to keep."""
    kind: MaskKind


def open_mask(source: Picture, size: tuple[int, int], kind: str | None = None) -> MaskPicture:
    """A mask for a picture of `size` (width, height), which marks what to repaint by `kind`.

    By "white": greys, as soft edges have, go to the nearer of black and white, and what is transparent is kept. By
    "alpha": what is more than half transparent is repainted. Without `kind` a mask without transparent pixels marks by
    white. One with some marks by alpha, as OpenAI's do, where the rest is of one colour or a picture; where black and
    white stand beside them, both are possible and neither is guessed.

    Raises `InputError` for another size, for a mask that can be read in both ways, by white for a picture in its place
    (more than a quarter of midtones) and for one whose brightest grey is still dark, by alpha for one without.
    """
    name = "the mask" if not isinstance(source, str | Path) else f"the mask {source}"
    if kind not in (None, *get_args(MaskKind)):
        raise InputError(f"there is no mask_kind {kind!r}; {did_you_mean(str(kind), get_args(MaskKind))}")
    picture = open_picture(source)
    if picture.size != size:
        raise InputError(f"{name} is {_times(picture.size)} pixels and the picture {_times(size)}; resize the mask.")
    if (kind or _mask_kind(picture, name)) == "alpha":
        return MaskPicture(_hole(picture, name), "alpha")
    return MaskPicture(_white(picture, name), "white")


def mask_of_alpha(picture: Image.Image) -> Image.Image | None:
    """The mask that repaints what is more than half transparent; None where nothing is.

    `picture` is one of `open_picture`; the mask is as `open_mask` gives it.
    """
    if picture.mode != "RGBA":
        return None
    mask = _threshold(ImageOps.invert(picture.getchannel("A")))
    return mask if mask.getbbox() else None


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """The mask at (height, width): 0 only for a pixel that lies wholly in what is known."""
    return mask if mask.shape[-2:] == size else F.adaptive_max_pool2d(mask, size)


def resize_known(
    pictures: Images, mask: Mask, size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """The known part at (height, width), from known pixels alone: what the mask hides does not bleed into its borders.

    A bicubic mean over what is known, divided by its weights; 0, which is grey, where nothing known is near.
    """
    weights = resize(1.0 - mask, size)
    # Of a pixel that is wholly known the weights sum to 0.2 or more, since its own pixels weigh most.
    return (resize(pictures * (1.0 - mask), size) / weights.clamp(min=0.1)).clamp(-1.0, 1.0)


def join(pictures: Images, painted: Images, mask: Mask, feather: int) -> Images:
    """`pictures` where the mask is 0, bit for bit; `painted` where it is 1, which fades in over `feather` pixels.

    It fades into the mean of known pixels that are no further away than that, and not into what the mask hides.
    """
    known = torch.where(mask == 0, pictures, _mean_of_known(pictures, mask, feather))
    return torch.lerp(known, painted, soft_edge(mask, feather))


def soft_edge(mask: Mask, feather: int) -> Mask:
    """min(d, feather + 1) / (feather + 1), with d the steps (king's moves) to the nearest pixel where the mask is 0.

    So it is 0 there, and 1 in all that is more than `feather` pixels inside. Beyond the borders nothing is known.
    """
    weights, eroded = mask, mask
    for done in range(feather):
        if bool((eroded == eroded.amax()).all()):
            return (weights + (feather - done) * eroded) / (feather + 1)
        eroded = -F.max_pool2d(-eroded, kernel_size=3, stride=1, padding=1)
        weights = weights + eroded
    return weights / (feather + 1)


def _mean_of_known(pictures: Images, mask: Mask, radius: int) -> Images:
    known, radius = 1.0 - mask, min(radius, max(mask.shape))
    return _box_blur(pictures * known, radius) / _box_blur(known, radius).clamp(min=1e-6)


def _box_blur(images: Images, radius: int) -> Images:
    """The mean over a square of 2 radius + 1 pixels, with zeros beyond the borders."""
    for height, width in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        images = F.avg_pool2d(images, (height, width), stride=1, padding=(height // 2, width // 2))
    return images


def _mask_kind(picture: Image.Image, name: str) -> MaskKind:
    if picture.mode == "RGB":
        return "white"
    pixels, greys = np.asarray(picture), np.asarray(picture.convert("L"))
    opaque, solid = pixels[..., 3] >= 128, pixels[..., 3] >= SOLID
    if opaque.all():
        return "white"
    if opaque.any():
        # Beside soft edges alone: there colours may be mixed with what stands in the hole, which nobody sees.
        looked_at = solid if solid.any() else opaque
        if np.ptp(pixels[looked_at], axis=0)[:3].max() <= ONE_COLOUR or _is_grey(greys[looked_at]):
            return "alpha"
    by_alpha, by_white = np.mean(~opaque), np.mean((greys >= 128) & opaque)
    raise InputError(
        f"{name} can be read in two ways: paint what is transparent ({by_alpha:.0%} of it), as OpenAI does, or what is "
        f'white ({by_white:.0%}); say which by mask_kind="alpha" or "white" (--mask-is alpha or white).'
    )


def _hole(picture: Image.Image, name: str) -> Image.Image:
    hole = None if picture.mode == "RGB" else _threshold(ImageOps.invert(picture.getchannel("A")))
    if hole is None or hole.getbbox() is None:
        raise InputError(
            f"{name} has nothing transparent, by which it is to be read; clear what to repaint, or paint it white on "
            'black and give mask_kind="white" (--mask-is white).'
        )
    return hole


def _white(picture: Image.Image, name: str) -> Image.Image:
    grey = picture.convert("L")
    if picture.mode == "RGBA":
        grey = ImageChops.multiply(grey, picture.getchannel("A"))
    values = np.asarray(grey)
    if _is_grey(values):
        raise InputError(f"{name} looks like a picture: more than a quarter of it is grey; paint white on black.")
    if 0 < values.max() < 128:
        raise InputError(f"{name} has no white: its brightest grey is {values.max()} of 255; make 255 what to repaint.")
    return _threshold(grey)


def _is_grey(values: np.ndarray) -> bool:
    return bool(np.mean((values >= 32) & (values < 224)) > 0.25)


def _threshold(grey: Image.Image) -> Image.Image:
    return grey.point([0] * 128 + [255] * 128)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
