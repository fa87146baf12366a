"""Read the pictures of shards as pixels at fixed sizes: decoded once into a cache, or each when it is requested."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip.data.shard_set import ShardSet
from unclip.data.tars import damaged
from unclip.data.texts import PackedTexts
from unclip.errors import DataError, InputError
from unclip.files import atomic_path, atomic_write
from unclip.images import cut_square
from unclip.pictures import on_white, read_picture, white_and_coverage

MAX_SKIPPED = 100
CHANNELS = (3, 4)
"""RGB on white; or the same with the picture's coverage (alpha) behind, 255 where a picture has none."""
Pixels = UInt8[np.ndarray, "_ _ 3"] | UInt8[np.ndarray, "_ _ 4"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One picture, ready for training."""

    key: str
    pixels: Mapping[int, Pixels]
    """uint8, (image_size, image_size, channels), by image size; 3 or 4 channels as in `CHANNELS`."""
    captions: tuple[str, ...]
    """At least one, the plain one first; "" if there is none."""


@runtime_checkable
class PictureSet(Protocol):
    """Pictures by number; picklable, safe in forked processes."""

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, as `Order` takes them."""

    @property
    def keys(self) -> Sequence[str]:
        """Unique names of the samples."""

    def __len__(self) -> int:
        """Count the samples, damaged ones included."""

    def captions(self, index: int) -> tuple[str, ...]:
        """Read the texts of one sample, without its pixels; raises as `item` does, but for the picture itself."""

    def item(self, index: int) -> Item:
        """Read one sample at all sizes; raises `DataError`, naming shard and key, if it is damaged or too small.

        Raises `InputError` for an index outside the set.
        """


def open_pictures(
    location: str | Path, image_sizes: Sequence[int], *, channels: int = 3, cache: bool = True
) -> PictureSet:
    """Open the centre squares of the pictures in the shards at `location` (as `ShardSet.open` takes it), at each size.

    The pixels are RGB on white, with 4 `channels` followed by coverage: 0 where the picture is transparent, 255 where
    it is opaque. Scaling is Pillow's antialiased bicubic, after compositing, from the same decoded picture for all
    sizes. With `cache` all pictures are decoded now, once, into files beside the shards, channels * size**2 bytes a
    picture, or in the folder of UNCLIP_CACHE if that is impossible; without, each picture when it is requested. The
    items are the same. Raises `InputError` for a size below 1, other channels and a cache that cannot be written,
    `DataError` as `ShardSet.open` does.
    """
    check_sizes(image_sizes)
    check_channels(channels)
    shards, sizes = ShardSet.open(location), tuple(image_sizes)
    return ShardPictures(
        shards=shards,
        image_sizes=sizes,
        channels=channels,
        caches=_pixel_caches(shards, sizes, channels) if cache else {},
        shard_sizes=shards.shard_sizes,
        keys=shards.keys,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardPictures:
    """The `PictureSet` of shards."""

    shards: ShardSet
    image_sizes: tuple[int, ...]
    channels: int
    caches: "Mapping[int, PixelCache]"
    """The decoded pictures by size; empty if each picture is decoded when it is requested."""
    shard_sizes: list[int]
    keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.shards)

    def captions(self, index: int) -> tuple[str, ...]:
        if not self.caches:
            return self.shards.sample(index).captions
        self.shards.shard(index)  # raises for an index outside the set
        return tuple(json.loads(self.caches[self.image_sizes[0]].captions[index]))

    def item(self, index: int) -> Item:
        if self.caches:
            captions = self.captions(index)
            pixels = {size: cache.read(index) for size, cache in sorted(self.caches.items())}
            return Item(key=self.keys[index], pixels=pixels, captions=captions)
        captions, layers = _decoded(self.shards, index, self.channels)
        pixels = {size: _square(self.shards, index, layers, size) for size in sorted(self.image_sizes)}
        return Item(key=self.keys[index], pixels=pixels, captions=captions)


def item_or_next(pictures: PictureSet, index: int) -> tuple[Item, int, list[str]]:
    """Read the item at `index`, or the first readable one after it (the first of the set follows the last).

    Returns the item, its index, and a line for each sample that was skipped. Raises `DataError` when 100 in a row, or
    all, cannot be read.
    """
    skipped: list[str] = []
    while len(skipped) < min(MAX_SKIPPED, len(pictures)):
        number = (index + len(skipped)) % len(pictures)
        try:
            return pictures.item(number), number, skipped
        except DataError as error:
            skipped.append(str(error))
    raise DataError(f"{len(skipped)} samples in a row cannot be read; run `unclip data check`. The last: {skipped[-1]}")


def probe_uncaptioned(pictures: PictureSet) -> tuple[int, int]:
    """Count the pictures without a caption among those read, and return how many were read: all, or a thousand.

    Of sets that `open_pictures` did not open, none is read.
    """
    if not isinstance(pictures, ShardPictures):
        return 0, 0
    for cache in pictures.caches.values():
        whole = [json.loads(texts) for index, texts in enumerate(cache.captions) if index not in cache.damage]
        return sum(not any(map(str.strip, captions)) for captions in whole), len(whole)
    return pictures.shards.probe_uncaptioned()


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTextSet:
    """Pictures with their captions, in the order of the shards."""

    images: UInt8[np.ndarray, "items height width 3"]
    """RGB, mapped from a cache file: reading an item reads it from disk or the page cache."""
    keys: list[str]
    captions: list[list[str]]
    """At least one caption for each item, the plain one first."""
    info: list[dict[str, Any]]
    """The sample's .json, whole; empty if the shard holds none."""

    def __len__(self) -> int:
        return len(self.keys)


def load_shards(folder: Path | str, image_size: int) -> ImageTextSet:
    """Load all samples of the .tar shards in `folder`, their pictures cut to the centre square of side `image_size`.

    The pixels are those of `open_pictures`, decoded once into the same cache. Raises `DataError`, naming shard and key,
    for a missing or damaged sample and for a picture smaller than `image_size`.
    """
    check_sizes([image_size])
    shards = ShardSet.open(folder)
    cache = _pixel_caches(shards, [image_size], channels=3)[image_size]
    for reason in cache.damage.values():
        raise DataError(reason)
    texts = [(list(sample.captions), dict(sample.info)) for sample in map(shards.sample, range(len(shards)))]
    captions, info = map(list, zip(*texts, strict=True))
    return ImageTextSet(images=np.load(cache.path, mmap_mode="r"), keys=list(shards.keys), captions=captions, info=info)


def decode_picture(content: bytes) -> Image.Image:
    """Decode a picture to RGB: upright, 8 bits, sRGB, white behind transparency, by the rules of `unclip.pictures`.

    Raises `DataError` with the reason for bytes that are damaged or no picture, and for too many pixels.
    """
    return on_white(decode_alpha(content))


def decode_alpha(content: bytes) -> Image.Image:
    """Decode a picture as `decode_picture` does, but to RGBA if it has transparency."""
    try:
        return read_picture(content)
    except InputError as error:
        raise DataError(str(error).partition(";")[0].removeprefix("the picture is ")) from None


def stack_layers(layers: Sequence[Image.Image]) -> Pixels:
    """Stack the channels of pictures of one size."""
    return np.dstack([np.asarray(layer) for layer in layers])


def _decoded(shards: ShardSet, index: int, channels: int) -> tuple[tuple[str, ...], list[Image.Image]]:
    """Read the captions of a sample and the layers of its picture."""
    sample = shards.sample(index)
    try:
        picture = decode_alpha(sample.picture)
    except DataError as error:
        raise damaged(shards.name(index), str(error)) from None
    return sample.captions, white_and_coverage(picture) if channels == 4 else [on_white(picture)]


def _square(shards: ShardSet, index: int, layers: Sequence[Image.Image], image_size: int) -> Pixels:
    width, height = layers[0].size
    if min(width, height) < image_size:
        raise DataError(
            f"{shards.name(index)} is {width} x {height} pixels, smaller than image_size={image_size}; "
            f"use at most {min(width, height)}, or write larger shards."
        )
    return stack_layers([cut_square(layer, image_size, Image.Resampling.BICUBIC) for layer in layers])


def check_channels(channels: int) -> None:
    """Raise `InputError` for another number of channels than `CHANNELS`."""
    if channels not in CHANNELS:
        raise InputError(f"channels={channels} is unknown; use 3 (RGB on white) or 4 (RGB on white, and coverage).")


def check_sizes(image_sizes: Sequence[int]) -> None:
    """Raise `InputError` for no size, or one below 1."""
    if not image_sizes or min(image_sizes) < 1:
        raise InputError(f"image_size={', '.join(map(str, image_sizes))} is not a size; use 1 or more pixels.")


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelCache:
    """The decoded pictures of a set at one size, in a .npy file; picklable, since it holds no open file."""

    path: Path
    image_size: int
    channels: int
    offset: int
    """Bytes before the first picture."""
    captions: PackedTexts
    """The captions of each sample, as a JSON list."""
    damage: dict[int, str]
    """Why a sample has no pixels, by its index."""

    def read(self, index: int) -> Pixels:
        """Read the pixels of one sample; raises `DataError` if it is damaged or the file is gone."""
        if index in self.damage:
            raise DataError(self.damage[index])
        shape = (self.image_size, self.image_size, self.channels)
        count = self.image_size**2 * self.channels
        try:
            return np.fromfile(self.path, np.uint8, count, offset=self.offset + index * count).reshape(shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read ({error}); remove it, it is made again.") from None


def _pixel_caches(shards: ShardSet, image_sizes: Sequence[int], channels: int) -> dict[int, PixelCache]:
    """Open the caches of a set at each size, `.cache-<size>-<content>.npy` and `.json`, or write those missing.

    Of 4 channels they are called `.cache-<size>x4-<content>`. They lie beside the shards, or in the folder of
    UNCLIP_CACHE for remote shards and read-only folders. All missing sizes come from one decoding. Raises `InputError`
    if they cannot be written.
    """
    mark = "" if channels == 3 else f"x{channels}"
    paths = {size: shards.store.folder / f".cache-{size}{mark}-{shards.content_id[:16]}.npy" for size in image_sizes}
    caches = {size: cache for size, path in paths.items() if (cache := _open_cache(path, size, channels, len(shards)))}
    missing = {size: path for size, path in paths.items() if size not in caches}
    return caches | (_write_caches(shards, missing, channels) if missing else {})


def _open_cache(path: Path, image_size: int, channels: int, num_items: int) -> PixelCache | None:
    """Open a cache; None if its files are missing or another program's."""
    try:
        pixels = np.load(path, mmap_mode="r")
        notes = json.loads(path.with_suffix(".json").read_bytes())
        captions = PackedTexts.of(map(json.dumps, notes["captions"]))
        damage = {int(index): reason for index, reason in notes["damage"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if pixels.shape != (num_items, image_size, image_size, channels) or len(captions) != num_items:
        return None
    return PixelCache(
        path=path, image_size=image_size, channels=channels, offset=pixels.offset, captions=captions, damage=damage
    )


def _write_caches(shards: ShardSet, paths: dict[int, Path], channels: int) -> dict[int, PixelCache]:
    captions: list[tuple[str, ...]] = []
    damage: dict[int, dict[int, str]] = {size: {} for size in paths}
    with ExitStack() as stack:
        pixels = {}
        for size, path in paths.items():
            shape = (len(shards), size, size, channels)
            temporary = stack.enter_context(atomic_path(path))
            pixels[size] = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for index in range(len(shards)):
            try:
                texts, layers = _decoded(shards, index, channels)
            except DataError as error:
                captions.append(())
                for reasons in damage.values():
                    reasons[index] = str(error)
                continue
            captions.append(texts)
            for size, rows in pixels.items():
                try:
                    rows[index] = _square(shards, index, layers, size)
                except DataError as error:
                    damage[size][index] = str(error)
        for size, path in paths.items():
            pixels[size].flush()
            # Written before the pixels appear, whose presence says that both are whole.
            atomic_write(path.with_suffix(".json"), json.dumps({"captions": captions, "damage": damage[size]}))
    packed = PackedTexts.of(map(json.dumps, captions))
    return {
        size: PixelCache(
            path=path,
            image_size=size,
            channels=channels,
            offset=pixels[size].offset,
            captions=packed,
            damage=damage[size],
        )
        for size, path in paths.items()
    }
