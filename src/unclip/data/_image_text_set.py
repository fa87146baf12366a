"""A whole set of pictures with captions in memory. Knows `ShardSet` and the caches; no emoji, batches or models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unclip.data._pixels import pixel_caches, require_sizes
from unclip.data._shard_set import ShardSet
from unclip.errors import DataError

__all__ = ["ImageTextSet", "load_shards"]


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
