"""Pictures of shards made ready for CLIP, in processes of their own. Knows files and pixels; holds no network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unclip.clip import ClipConfig
from unclip.data import ShardSet, decode_picture
from unclip.errors import DataError
from unclip.images import crop_square, from_pil, from_uint8, resize
from unclip.shapes import Images

__all__ = ["PictureBatch", "read_pictures", "to_pixels"]


class PictureBatch(NamedTuple):
    """Neighbouring samples of one shard."""

    shard: int
    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    damaged: Mapping[str, str]
    """Keys of samples that could not be read, and why."""
    pixels: Tensor
    """Pictures that could be read, uint8 (count, size, size, 3) or float32 (count, 3, size, size) in [-1, 1]."""


class PictureBatches(Dataset[PictureBatch]):
    """Batches of chosen shards, none of which spans two: a shard's features do not depend on the others."""

    def __init__(self, shards: ShardSet, chosen: Sequence[int], batch_size: int, config: ClipConfig) -> None:
        starts = np.cumsum([0, *shards.shard_sizes])
        self._shards, self._config = shards, config
        self._batches = [
            (shard, range(first, min(first + batch_size, int(starts[shard + 1]))))
            for shard in chosen
            for first in range(int(starts[shard]), int(starts[shard + 1]), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> PictureBatch:
        """Read and decode one batch."""
        shard, indices = self._batches[number]
        captions: list[Sequence[str]] = []
        damaged, pixels = {}, []
        for index in indices:
            captions.append(())
            try:
                sample = self._shards.sample(index)
                captions[-1] = sample.captions
                pixels.append(_prepared(decode_picture(sample.picture), self._config))
            except DataError as error:
                damaged[self._shards.keys[index]] = str(error)
        keys = [self._shards.keys[index] for index in indices]
        return PictureBatch(shard, keys, captions, damaged, torch.stack(pixels) if pixels else torch.empty(0))


def read_pictures(
    shards: ShardSet, chosen: Sequence[int], batch_size: int, config: ClipConfig, num_workers: int, pin_memory: bool
) -> Iterator[PictureBatch]:
    """The batches of chosen shards, in order, decoded ahead by `num_workers` processes."""
    batches = PictureBatches(shards, chosen, batch_size, config)
    loader: DataLoader[PictureBatch] = DataLoader(
        batches, batch_size=None, collate_fn=_unchanged, num_workers=num_workers, pin_memory=pin_memory
    )
    yield from loader


def to_pixels(pixels: Tensor, device: torch.device) -> Images:
    """What `PictureBatch.pixels` holds as float32 in [-1, 1] on `device`."""
    if pixels.dtype == torch.uint8 and device.type == "cpu":
        return from_uint8(pixels.numpy())
    pixels = pixels.to(device, non_blocking=True)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0) if pixels.dtype == torch.uint8 else pixels


# As `TextImageEncoder.encode_pictures` does it, to the bit. Cropped pictures travel as bytes, a quarter of the size.
def _prepared(picture: Image.Image, config: ClipConfig) -> Tensor:
    if config.resize == "crop":
        return torch.from_numpy(np.array(crop_square(picture, config.image_size)))
    return resize(from_pil([picture]), config.image_size)[0]


def _unchanged(batch: Any) -> Any:
    return batch
