"""Pictures with captions, decoded once or when their turn comes. Knows their pixels; no batches and no training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unclip.data.pixels import PixelCache, Pixels, decoded, pixel_caches, require_sizes, square
from unclip.data.shard_set import ShardSet
from unclip.errors import DataError

MAX_SKIPPED = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One picture, ready for training."""

    key: str
    pixels: Mapping[int, Pixels]
    """uint8 RGB, (image_size, image_size, 3), by image size."""
    captions: tuple[str, ...]
    """At least one, the plain one first; "" where there is none."""


@runtime_checkable
class PictureSet(Protocol):
    """Pictures by number; picklable, safe in forked processes."""

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, as `Order` wants them."""

    @property
    def keys(self) -> Sequence[str]:
        """Unique names of the samples."""

    def __len__(self) -> int:
        """Samples, damaged ones included."""

    def captions(self, index: int) -> tuple[str, ...]:
        """The texts of one sample, without its pixels; raises as `item` does, but for the picture itself."""

    def item(self, index: int) -> Item:
        """One sample at all sizes; raises `DataError`, naming shard and key, when it is damaged or too small.

        Raises `InputError` for an index outside the set.
        """


def open_pictures(location: str | Path, image_sizes: Sequence[int], *, cache: bool = True) -> PictureSet:
    """The centre squares of the pictures in the shards at `location` (as `ShardSet.open` takes it), at each size.

    Scaling is Pillow's antialiased bicubic, from the same decoded picture for all sizes. With `cache` everything is
    decoded now, once, into files beside the shards, 3 * size**2 bytes a picture, or in the folder of UNCLIP_CACHE
    where that is not possible; without, each picture when it is asked for. The items are the same. Raises `InputError`
    for a size below 1 and a cache that cannot be written, `DataError` as `ShardSet.open` does.
    """
    require_sizes(image_sizes)
    shards = ShardSet.open(location)
    if cache:
        return _Cached(shards=shards, caches=pixel_caches(shards, image_sizes))
    return _Streamed(shards=shards, image_sizes=tuple(image_sizes))


def probe_uncaptioned(pictures: PictureSet) -> tuple[int, int]:
    """Pictures without a caption among those looked at, and how many those are: all, or a thousand of very many.

    None is looked at in a set that is not of `open_pictures`.
    """
    if isinstance(pictures, _Cached):
        [cache, *_] = pictures.caches.values()
        whole = (json.loads(texts) for index, texts in enumerate(cache.captions) if index not in cache.damage)
        missing = sum(not any(map(str.strip, captions)) for captions in whole)
        return missing, len(pictures) - len(cache.damage)
    return pictures.shards.probe_uncaptioned() if isinstance(pictures, _Streamed) else (0, 0)


def item_or_next(pictures: PictureSet, index: int) -> tuple[Item, int, list[str]]:
    """The item at `index`, or the first after it (the first of the set follows the last) that can be read.

    Returns the item, its index, and a line for each sample that was passed over. Raises `DataError` when 100 in a row,
    or all, cannot be read.
    """
    skipped: list[str] = []
    while len(skipped) < min(MAX_SKIPPED, len(pictures)):
        place = (index + len(skipped)) % len(pictures)
        try:
            return pictures.item(place), place, skipped
        except DataError as error:
            skipped.append(str(error))
    raise DataError(f"{len(skipped)} samples in a row cannot be read; run `unclip data check`. The last: {skipped[-1]}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    shards: ShardSet

    @property
    def shard_sizes(self) -> list[int]:
        """See `PictureSet`."""
        return self.shards.shard_sizes

    @property
    def keys(self) -> Sequence[str]:
        """See `PictureSet`."""
        return self.shards.keys

    def __len__(self) -> int:
        return len(self.shards)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Streamed(_Opened):
    image_sizes: tuple[int, ...]

    def captions(self, index: int) -> tuple[str, ...]:
        """See `PictureSet`."""
        return self.shards.sample(index).captions

    def item(self, index: int) -> Item:
        """See `PictureSet`."""
        sample, image = decoded(self.shards, index)
        name = self.shards.name(index)
        pixels = {size: square(image, size, name) for size in sorted(self.image_sizes)}
        return Item(key=sample.key, pixels=pixels, captions=sample.captions)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cached(_Opened):
    caches: Mapping[int, PixelCache]

    def captions(self, index: int) -> tuple[str, ...]:
        """See `PictureSet`."""
        self.shards.shard(index)  # raises for an index outside the set
        [captions, *_] = [json.loads(cache.captions[index]) for cache in self.caches.values()]
        return tuple(captions)

    def item(self, index: int) -> Item:
        """See `PictureSet`."""
        captions = self.captions(index)
        pixels = {size: cache.read(index) for size, cache in sorted(self.caches.items())}
        return Item(key=self.shards.keys[index], pixels=pixels, captions=captions)
