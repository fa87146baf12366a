"""What inpainting and outpainting share: originals, masks, windows, and painting a region."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageChops, ImageCms, ImageOps
from torch import Tensor

from unclip.errors import InputError, did_you_mean
from unclip.images import from_pil, resize
from unclip.pictures import Picture, foreign_profile, open_original, open_picture, white_of
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.features import Features, encode
from unclip.pipelines.job import Job
from unclip.pipelines.sampling import FROM_NOISE, Start
from unclip.shapes import Images, Sample

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


Box: TypeAlias = tuple[int, int, int, int]
"""(left, top, right, bottom), the last two exclusive."""

# Half as wide again as what is missing: room to see what it has to fit to.
CONTEXT = Fraction(3, 2)


def window_around(missing: Box, picture: tuple[int, int], drawn: tuple[int, int]) -> Box:
    """The window to paint `missing` in, of the shape of `drawn`; all sizes are (width, height).

    It is `CONTEXT` times as large as what is missing, but no smaller than `drawn` where the picture has room for that,
    and no larger than it takes to hold the picture; so a picture of the size `drawn` is its own window. It lies inside
    the picture on each axis that is long enough, and sticks out on both sides of one that is not.
    """
    spans = [(max(missing[axis] - 1, 0), min(missing[axis + 2] + 1, picture[axis])) for axis in (0, 1)]
    needed = max(Fraction(stop - start, side) for (start, stop), side in zip(spans, drawn, strict=True))
    fits = [Fraction(length, side) for length, side in zip(picture, drawn, strict=True)]
    scale = min(max(CONTEXT * needed, min(*fits, Fraction(1))), max(fits))
    width, height = (math.ceil(scale * side) for side in drawn)
    left, top = (
        _place(*span, side, length) for span, side, length in zip(spans, (width, height), picture, strict=True)
    )
    return left, top, left + width, top + height


def windows_outward(canvas: tuple[int, int], known: Box, side: int) -> list[Box]:
    """Squares inside the canvas that cover it, from `known` outward.

    Where `known` is no shorter than `side`, half of each or more is known or lies in earlier ones. `side` is no longer
    than the canvas's shorter side.
    """
    across, down = (_starts(canvas[axis], known[axis], known[axis + 2], side) for axis in (0, 1))
    order = sorted(
        (right + below, top, left) for (left, right), (top, below) in itertools.product(across.items(), down.items())
    )
    return [(left, top, left + side, top + side) for _, top, left in order]


def _place(start: int, stop: int, side: int, length: int) -> int:
    """Where a window of `side` begins that has start to stop in its middle, or the whole axis if that is shorter."""
    if side >= length:
        return (length - side) // 2
    return min(max((start + stop - side) // 2, 0), length - side)


def _starts(length: int, first: int, last: int, side: int) -> dict[int, int]:
    """Where windows begin on one axis, and after how many others each has its turn; first to last is known."""
    span, middle, step = last - first, _place(first, last, side, length), max(side // 2, 1)
    leftmost, rightmost = first, last - side
    if 2 * span < side:
        leftmost = rightmost = middle
    right, left = _even(rightmost, length - side, step), _even(leftmost, 0, step)
    turns = {min(max(start, 0), length - side): turn for chain in (right, left) for turn, start in enumerate(chain, 1)}
    if span >= side:
        return turns | dict.fromkeys([first, *_even(first, last - side, step)], 0)
    # Around a picture somewhat smaller than itself a window has only slivers to paint: better the next ones paint them.
    return {middle: 0 if 2 * span < side else 2} | turns


def _even(start: int, stop: int, step: int) -> list[int]:
    """The way from `start`, which is left out, to `stop` in even steps of `step` or less."""
    count = math.ceil(abs(stop - start) / step)
    return [start + (stop - start) * index // count for index in range(1, count + 1)]


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


FEATHER = 4
NUM_RESAMPLES = 2


def embed(job: Job, prompt: str | None, picture: Image.Image) -> tuple[list[Tensor], Features]:
    """Image embeddings for each batch, the prior's of a prompt or else CLIP's, and the features that they are of."""
    if prompt is not None:
        features = encode(job.model, [prompt])
        return job.sample_prior(features, job.model.num_candidates), features
    features = encode(job.model, [""], [picture])
    return [features.pictures[batch.rows] for batch in job.batches], features


def describe(job: Job, prompt: str | None, feather: int, num_resamples: int) -> dict[str, Any]:
    """What a result says of how it was painted."""
    height, width = job.chain.size
    return {
        "drawn_size": width if width == height else [width, height],
        "feather": feather,
        "num_resamples": num_resamples,
        **({} if prompt is None else {"num_candidates": job.model.num_candidates}),
    }


def paint(
    job: Job,
    embeddings: list[Tensor],
    condition: Condition,
    windows: Sequence[Sequence[Image.Image]],
    known: Image.Image,
    *,
    feather: int,
    num_resamples: int,
) -> list[Tensor]:
    """The windows of each batch in [-1, 1]: as they are where `known` is white, painted where it is black.

    Every stage draws at its own size and keeps what is known at that size; only the decoder resamples.
    """
    decoder, (height, width), device = job.model.need_decoder, job.chain.sizes[0], job.model.device
    latents = height // decoder.downsampling, width // decoder.downsampling
    pictures = [from_pil(batch).to(device) for batch in windows]
    mask = (from_pil([known])[:, :1] < 0.0).float().to(device)

    at_decoder = _starting_points(pictures, mask, (height, width), latents, decoder.encode, num_resamples)
    later = {
        stage.name: _starting_points(pictures, mask, size, size)
        for stage, size in zip(job.chain.upsamplers, job.chain.sizes[1:], strict=True)
    }
    drawn = job.upsample(job.decode(embeddings, condition, at_decoder), later)
    at_home = (resize(images, (known.height, known.width)).clamp(-1.0, 1.0) for images in drawn)
    return [join(picture, images, mask, feather).cpu() for picture, images in zip(pictures, at_home, strict=True)]


def _starting_points(
    pictures: list[Tensor],
    mask: Mask,
    size: tuple[int, int],
    seen: tuple[int, int],
    start: Callable[[Images], Sample] = lambda images: images,
    num_resamples: int = 1,
) -> Iterator[Start]:
    """For each batch what is known at `size`; blank where nothing is. `seen` is the size that the network works at."""
    hole = resize_mask(mask, seen)
    for picture in pictures:
        if bool(hole.all()):
            yield FROM_NOISE
        else:
            yield Start(picture=start(resize_known(picture, mask, size)), mask=hole, num_resamples=num_resamples)
