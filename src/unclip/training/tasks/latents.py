"""Latents of all pictures of a set, computed once by a frozen autoencoder and kept beside the shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float16
from numpy.lib.format import open_memmap
from torch import Tensor

from unclip.checkpoint import NetworkWeights, fill, networks_hash
from unclip.data import Item, PictureSet, ShardSet
from unclip.errors import DataError
from unclip.files import atomic_path
from unclip.images import from_uint8
from unclip.model.families import build_on_meta
from unclip.model.folder import open_network
from unclip.models import Autoencoder, ConvAutoencoder
from unclip.training.config import DataConfig
from unclip.training.tasks.samples import UsablePictures, load_pictures, stack_pixels

ENCODED_TOGETHER = 64
LARGEST = 65_504.0
"""Of float16; latents beyond it are no latents that a network makes."""
LatentNumbers = Float16[np.ndarray, "samples channels height width"]


def open_autoencoder(folder: Path) -> NetworkWeights:
    """Open the autoencoder in the folder of a training run or a model; raises `CheckpointError` as loading does."""
    return open_network(folder / "autoencoder.safetensors", "autoencoder")


def load_autoencoder(weights: NetworkWeights, device: torch.device) -> Autoencoder | ConvAutoencoder:
    """Load a frozen autoencoder in float32."""
    network: Autoencoder | ConvAutoencoder = build_on_meta(weights.config)
    fill(network, weights.tensors, weights.source, device)
    return network


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents by the number of their sample; picklable, since it holds no open file."""

    path: Path
    is_valid: Bool[np.ndarray, " samples"]
    """Whether a sample has latents; a picture that could not be read has none."""

    def __call__(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return the latents of these samples, (samples, channels, height, width) float32."""
        table = np.load(self.path, mmap_mode="r")
        return torch.from_numpy(table[np.asarray(indices)].astype(np.float32))


@dataclass(frozen=True, eq=False)
class EncodedPictures(UsablePictures):
    """A `PictureSet` without pixels, since latents stand for them; a picture without latents counts as damaged."""

    latents: Latents

    def item(self, index: int) -> Item:
        if not self.latents.is_valid[index]:
            raise DataError(f"{self.keys[index]} has no latents: its picture is damaged")
        return Item(key=self.keys[index], pixels={}, captions=self.captions(index))


def encode_pictures(
    data: DataConfig, weights: NetworkWeights, network: Autoencoder | ConvAutoencoder, image_size: int
) -> EncodedPictures:
    """Encode the pictures of `data` at `image_size` pixels, or open the file in which that was done before.

    The file, `.latents-<size>-<autoencoder>-<content>.npy`, lies beside the shards, or where `open_pictures` keeps what
    it makes of shards that are remote or read-only; it takes 2 bytes a number. `network` has the `weights`.
    """
    config = network.config
    pictures = load_pictures(data, image_size, channels=config.in_channels)
    shards = ShardSet.open(data.folder)
    stamp = networks_hash({"autoencoder": weights})[:12]
    path = shards.store.folder / f".latents-{image_size}-{stamp}-{shards.content_id[:16]}.npy"
    side = image_size // config.downsampling
    shape = (len(pictures), config.latent_channels, side, side)
    if not _holds(path, shape):
        with atomic_path(path) as temporary:
            table = open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            for start in range(0, len(pictures), ENCODED_TOGETHER):
                rows = range(start, min(start + ENCODED_TOGETHER, len(pictures)))
                _encode(network, pictures, table, rows, image_size)
            table.flush()
    is_valid = np.isfinite(np.load(path, mmap_mode="r")[:, 0, 0, 0])
    return EncodedPictures(pictures, Latents(path, is_valid))


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError):
        return False


def _encode(
    network: Autoencoder | ConvAutoencoder, pictures: PictureSet, table: LatentNumbers, rows: range, image_size: int
) -> None:
    read: dict[int, Item] = {}
    for index in rows:
        try:
            read[index] = pictures.item(index)
        except DataError:
            table[index] = np.nan
    if not read:
        return
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        latents = network.encode(from_uint8(stack_pixels(list(read.values()), image_size)).to(device)).float()
    table[list(read)] = latents.clamp(-LARGEST, LARGEST).cpu().numpy().astype(np.float16)
