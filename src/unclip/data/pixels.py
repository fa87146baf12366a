"""Pictures fitted to a square and cached as bytes."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip.config import Config
from unclip.data.shard_set import ShardSet
from unclip.data.sources.base import Sample
from unclip.data.texts import Texts
from unclip.errors import DataError, InputError
from unclip.files import atomic_path, atomic_write
from unclip.pictures import on_white, read_picture

Crop = Literal["center", "shortest", "pad", "stretch", "none"]
CROPS = ("center", "shortest", "pad", "stretch", "none")
FORMATS = ("png", "webp", "jpg")


class PictureFormat(Config):
    """How pictures are stored."""

    suffix: Literal["png", "webp", "jpg"] = "png"
    """png (no loss), webp or jpg."""
    quality: int = 95
    """1 to 100, of webp and jpg; png has none."""


def decode_picture(content: bytes) -> Image.Image:
    """The picture as RGB: upright, 8 bits, sRGB, white behind transparency, by the rules of `unclip.pictures`.

    Raises `DataError` with the reason for bytes that are damaged or no picture, and for too many pixels.
    """
    try:
        return on_white(read_picture(content))
    except InputError as error:
        raise DataError(str(error).partition(";")[0].removeprefix("the picture is ")) from None


def fit_picture(picture: Image.Image, image_size: int, crop: Crop, *, allow_upscale: bool = False) -> Image.Image:
    """`picture` (RGB) at `image_size` by the rule `crop`.

    center: the largest centre square, scaled. shortest: the shorter side scaled to `image_size`, the other in
    proportion. pad: the longer side scaled to at most `image_size`, centred on a white square. stretch: both sides
    scaled. none: unchanged. Scaling is Pillow's Lanczos over the whole picture. Raises `DataError` where a picture
    would have to be enlarged and `allow_upscale` is not set (pad leaves it at its size), `InputError` for no size.
    """
    if image_size < 1:
        raise InputError(f"image_size={image_size} is not a size; use 1 or more pixels.")
    if crop == "none":
        return picture
    if crop != "pad" and min(picture.size) < image_size and not allow_upscale:
        raise DataError(f"it is {picture.width} x {picture.height} pixels, smaller than {image_size}")
    if crop == "center":
        return _resize(_centre_square(picture), (image_size, image_size))
    if crop == "stretch":
        return _resize(picture, (image_size, image_size))
    if crop == "shortest":
        return _resize(picture, _scaled(picture, image_size / min(picture.size)))
    return _pad(picture, image_size, allow_upscale)


def encode_picture(picture: Image.Image, form: PictureFormat) -> bytes:
    """`picture` as a file, without metadata; the same pixels give the same bytes."""
    file = io.BytesIO()
    if form.suffix == "png":
        picture.save(file, "PNG", compress_level=6)
    elif form.suffix == "webp":
        picture.save(file, "WEBP", quality=form.quality, method=4)
    else:
        # Colour at full resolution: half of a small picture's pixels is little.
        picture.save(file, "JPEG", quality=form.quality, subsampling=0)
    return file.getvalue()


# Of stripes finer than 1.5 pixels of the result Lanczos leaves at most 5 % of the contrast, bicubic 16 %, and Pillow's
# faster way (`reducing_gap=3`, which averages whole pixels first) 13 %.
def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.LANCZOS)


# Cut before it is scaled: with Pillow's `box`, the kernel would reach beyond the square.
def _centre_square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _pad(picture: Image.Image, image_size: int, allow_upscale: bool) -> Image.Image:
    scale = image_size / max(picture.size)
    inner = _resize(picture, _scaled(picture, scale)) if scale < 1 or allow_upscale else picture
    square = Image.new("RGB", (image_size, image_size), "white")
    square.paste(inner, ((image_size - inner.width) // 2, (image_size - inner.height) // 2))
    return square


def _scaled(picture: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


Pixels = UInt8[np.ndarray, "_ _ 3"]


def decoded(shards: ShardSet, index: int) -> tuple[Sample, Image.Image]:
    """One sample and its picture in RGB; raises `DataError`, naming shard and key, where it is damaged."""
    sample = shards.sample(index)
    try:
        return sample, decode_picture(sample.picture)
    except DataError as error:
        raise shards.damaged(index, str(error)) from None


def square(image: Image.Image, image_size: int, name: str) -> Pixels:
    """The centre square of the picture, scaled by Pillow's antialiased bicubic, the kernel of `unclip.images.resize`.

    Raises `DataError` with the sample's `name` where the picture is smaller than `image_size`.
    """
    side = min(image.size)
    if side < image_size:
        raise DataError(
            f"{name} is {image.width} x {image.height} pixels, smaller than image_size={image_size}; "
            f"use at most {side}, or write larger shards."
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    centre = image.crop((left, top, left + side, top + side))
    return np.asarray(centre.resize((image_size, image_size), Image.Resampling.BICUBIC))


def require_sizes(image_sizes: Sequence[int]) -> None:
    """Raise `InputError` when there is no size or one below 1."""
    if not image_sizes or min(image_sizes) < 1:
        raise InputError(f"image_size={', '.join(map(str, image_sizes))} is not a size; use 1 or more pixels.")


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelCache:
    """The decoded pictures of a set at one size, in a .npy file; picklable, since it holds no open file."""

    path: Path
    image_size: int
    offset: int
    """Bytes before the first picture."""
    captions: Texts
    """The captions of each sample, as a JSON list."""
    damage: dict[int, str]
    """Why a sample has no pixels, by its index."""

    def read(self, index: int) -> Pixels:
        """The pixels of one sample; raises `DataError` when it is damaged or the file is gone."""
        if index in self.damage:
            raise DataError(self.damage[index])
        shape = (self.image_size, self.image_size, 3)
        count = self.image_size**2 * 3
        try:
            return np.fromfile(self.path, np.uint8, count, offset=self.offset + index * count).reshape(shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read ({error}); remove it, it is made again.") from None


def pixel_caches(shards: ShardSet, image_sizes: Sequence[int]) -> dict[int, PixelCache]:
    """The caches of a set at each size: `.cache-<size>-<content>.npy` and `.json`, made where they are missing.

    They lie beside the shards, or in the folder of UNCLIP_CACHE for shards behind a URL or in a read-only folder. All
    missing sizes come from one decoding. Raises `InputError` where they cannot be written.
    """
    require_sizes(image_sizes)
    paths = {size: shards.store.folder / f".cache-{size}-{shards.content_id[:16]}.npy" for size in image_sizes}
    caches = {size: _open(path, size, len(shards)) for size, path in paths.items()}
    missing = {size: paths[size] for size, cache in caches.items() if cache is None}
    if missing:
        _write(shards, missing)
        caches |= {size: _open(path, size, len(shards)) for size, path in missing.items()}
    made = {size: cache for size, cache in caches.items() if cache is not None}
    assert len(made) == len(paths), (paths, caches)
    return made


def _open(path: Path, image_size: int, num_items: int) -> PixelCache | None:
    """None where the files are not there or another program's."""
    try:
        pixels = np.load(path, mmap_mode="r")
        notes = json.loads(path.with_suffix(".json").read_bytes())
        captions = Texts.of(map(json.dumps, notes["captions"]))
        damage = {int(index): reason for index, reason in notes["damage"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if pixels.shape != (num_items, image_size, image_size, 3) or len(captions) != num_items:
        return None
    return PixelCache(path=path, image_size=image_size, offset=pixels.offset, captions=captions, damage=damage)


def _write(shards: ShardSet, paths: dict[int, Path]) -> None:
    captions: list[tuple[str, ...]] = []
    damage: dict[int, dict[int, str]] = {size: {} for size in paths}
    with ExitStack() as stack:
        pixels = {size: _new(stack.enter_context(atomic_path(path)), len(shards), size) for size, path in paths.items()}
        for index in range(len(shards)):
            captions.append(_decode_into(pixels, damage, shards, index))
        for size, path in paths.items():
            pixels[size].flush()
            # Before the pixels appear, since they say that both are whole.
            atomic_write(path.with_suffix(".json"), json.dumps({"captions": captions, "damage": damage[size]}))


def _new(path: Path, num_items: int, image_size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    shape = (num_items, image_size, image_size, 3)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _decode_into(
    pixels: Mapping[int, np.ndarray], damage: Mapping[int, dict[int, str]], shards: ShardSet, index: int
) -> tuple[str, ...]:
    """Fill in one sample at each size, its pixels or what is wrong with it; returns its captions."""
    try:
        sample, image = decoded(shards, index)
    except DataError as error:
        for reasons in damage.values():
            reasons[index] = str(error)
        return ()
    for size, rows in pixels.items():
        try:
            rows[index] = square(image, size, shards.name(index))
        except DataError as error:
            damage[size][index] = str(error)
    return sample.captions


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTextSet:
    """Pictures with their captions, in the order of the shards."""

    images: UInt8[np.ndarray, "items height width 3"]
    """RGB, mapped from a cache file: reading an item reads it from disk or the page cache."""
    keys: list[str]
    captions: list[list[str]]
    """At least one caption for each item, the plain one first."""
    info: list[dict[str, Any]]
    """The sample's .json, whole; empty when the shard holds none."""

    def __len__(self) -> int:
        return len(self.keys)


def load_shards(folder: Path | str, image_size: int) -> ImageTextSet:
    """All samples of the .tar shards in `folder`, their pictures cut to the centre square and scaled to `image_size`.

    The pixels are those of `open_pictures`, decoded once into the same cache. Raises `DataError`, naming shard and key,
    for a missing or damaged sample and for a picture smaller than `image_size`.
    """
    require_sizes([image_size])
    shards = ShardSet.open(folder)
    cache = pixel_caches(shards, [image_size])[image_size]
    for reason in cache.damage.values():
        raise DataError(reason)
    captions, info = [], []
    for index in range(len(shards)):
        sample = shards.sample(index)
        captions.append(list(sample.captions))
        info.append(dict(sample.info))
    images = np.load(cache.path, mmap_mode="r")
    return ImageTextSet(images=images, keys=list(shards.keys), captions=captions, info=info)
