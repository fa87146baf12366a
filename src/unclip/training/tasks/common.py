"""What several tasks need: data, initialisation from a seed, diffusion times, frozen embeddings. Knows no loop."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unclip.clip import TextImageEncoder
from unclip.data import ImageTextSet, emoji_items, load_shards, write_shards
from unclip.images import from_uint8
from unclip.runtime import autocast, forked_random_state, inference_dtype
from unclip.training.config import DataConfig

__all__ = ["draw_captions", "draw_times", "embed_images", "load_pictures", "seeded_network"]

N = TypeVar("N", bound=nn.Module)
EMBED_BATCH = 256


def load_pictures(config: DataConfig, image_size: int) -> ImageTextSet:
    """The data set at `image_size`; the emoji set is rasterised first where its folder is missing."""
    if config.emoji_split is not None and not Path(config.folder).exists():
        items = emoji_items(config.emoji_split)[:: config.every][: config.limit]
        workers = 1 if config.limit else 2
        write_shards(config.folder, items, config.source_size, f"emoji-{config.emoji_split}", num_workers=workers)
    return load_shards(config.folder, image_size)


def seeded_network(build: Callable[[], N], seed: int, device: torch.device) -> N:
    """Build a network whose initial weights depend on `seed` alone; the caller's random state is untouched."""
    with forked_random_state(seed):
        return build().to(device)


def draw_times(count: int, num_timesteps: int, generator: torch.Generator) -> Tensor:
    """Uniform table points t = (i + 1) / T, stratified over the batch so that every batch covers all noise levels."""
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    index = (strata * num_timesteps).long().clamp_(max=num_timesteps - 1)
    return ((index + 1).double() / num_timesteps)[torch.randperm(count, generator=generator)]


def draw_captions(
    captions: Sequence[Sequence[str]], indices: np.ndarray, generator: torch.Generator, drop_prob: float = 0.0
) -> list[str]:
    """One of each picture's captions, or the empty prompt with `drop_prob`."""
    drawn = []
    for index in indices:
        choices = captions[int(index)]
        choice = int(torch.randint(len(choices), (), generator=generator))
        dropped = float(torch.rand((), generator=generator)) < drop_prob
        drawn.append("" if dropped else choices[choice])
    return drawn


@torch.inference_mode()
def embed_images(encoder: TextImageEncoder, pictures: ImageTextSet, device: torch.device) -> Tensor:
    """CLIP embeddings of all pictures, (num_items, dim) float32."""
    parts = []
    with autocast(device, inference_dtype(device)):
        for start in range(0, len(pictures.keys), EMBED_BATCH):
            images = from_uint8(np.asarray(pictures.images[start : start + EMBED_BATCH])).to(device)
            parts.append(encoder.encode_image(images).float())
    return torch.cat(parts).clone()
