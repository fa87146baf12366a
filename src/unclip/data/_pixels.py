"""From samples to square pixels, and the files that keep them. Knows `ShardSet`; no training and no batches."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip.data._fit import decode_picture
from unclip.data._shard_set import ShardSet
from unclip.data._source import Sample
from unclip.data._texts import Texts
from unclip.errors import DataError, InputError
from unclip.files import atomic_path, atomic_write

__all__ = ["PixelCache", "Pixels", "decoded", "pixel_caches", "require_sizes", "square"]

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
