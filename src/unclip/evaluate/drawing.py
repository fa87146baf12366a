"""Chunks of pictures that a model draws of prompts, and their features. Knows a model and networks; no metric."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from unclip.evaluate.features import Chunk, Chunks, Networks, feature_rows
from unclip.evaluate.options import Setting
from unclip.evaluate.prompts import as_uint8
from unclip.images import crop_square, save_png
from unclip.pipelines.features import chunk_size
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.tasks.text_to_image import text_to_image

NUM_SAMPLES = 64
"""Pictures of each point that are kept for a page."""


class Drawn(NamedTuple):
    """Pictures of neighbouring prompts."""

    images: list[Image.Image]
    prompts: list[str]
    seeds: list[int]
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """Everything that the pictures of an evaluation depend on, and where they go."""

    model: Model
    prompts: Sequence[str]
    networks: Networks
    out: Path
    size: int
    seed: int
    images_per_prompt: int
    batch_size: int | None
    feature_batch: int
    prompts_per_chunk: int
    num_kept: int
    """Pictures of each point that are kept, the first ones."""

    def chunks(self, point: Setting) -> Chunks:
        """Where the features of a point are; an item is a prompt with all its pictures."""
        return Chunks(
            folder=self.out / "features" / point.folder, num_items=len(self.prompts), length=self.prompts_per_chunk
        )

    def compute(self, point: Setting, number: int) -> None:
        """Draw a chunk and write its features, after those of its pictures that are kept.

        Raises `DataError` for features that are not finite, with prompt and seed.
        """
        chunks = self.chunks(point)
        items = chunks.items(number)
        drawn = self._draw(point, items)
        self._keep(point, drawn, items[0] * self.images_per_prompt)
        pictures = as_uint8(drawn.images)
        names = [f"{prompt!r}, seed {seed}" for prompt, seed in zip(drawn.prompts, drawn.seeds, strict=True)]
        rows = dict[str, torch.Tensor]()
        for network in self.networks.networks:
            rows |= feature_rows(network, pictures, names, self.feature_batch)
        if self.networks.clip is not None:
            rows["clip_text"] = self.networks.text_rows(drawn.prompts, self.feature_batch)
        chunks.write(number, Chunk(rows=rows, seconds=drawn.seconds))

    def _draw(self, point: Setting, items: range) -> Drawn:
        """All pictures of a chunk, as 8-bit squares of the size that is compared."""
        images, prompts, seeds, seconds = list[Image.Image](), list[str](), list[int](), 0.0
        count, batch = self.images_per_prompt, self.batch_size or chunk_size(self.model)
        for first, last in _spans(items, max(batch // count, 1)):
            started = time.monotonic()
            options: DrawOptions = {**point.options, "seed": self._seeds(first, last), "batch_size": batch}
            result = text_to_image(self.model, self.prompts[first:last], count, **options)
            seconds += time.monotonic() - started
            images += [image if image.width == self.size else crop_square(image, self.size) for image in result.images]
            prompts += result.prompts
            seeds += result.seeds
        return Drawn(images, prompts, seeds, seconds)

    def _seeds(self, first: int, last: int) -> list[int]:
        return list(range(self.seed + first * self.images_per_prompt, self.seed + last * self.images_per_prompt))

    def _keep(self, point: Setting, drawn: Drawn, first: int) -> None:
        for place, image in enumerate(drawn.images[: max(self.num_kept - first, 0)]):
            about = {"prompt": drawn.prompts[place], "seed": str(drawn.seeds[place]), "model": self.model.name}
            save_png(image, self.out / sample_path(point, first + place), about)


def sample_path(point: Setting, place: int) -> Path:
    """A kept picture within the evaluation's folder."""
    return Path("pictures", point.folder, f"{place:06}.png")


def sample_paths(point: Setting, num_images: int) -> tuple[Path, ...]:
    """The pictures of a point that a page shows, within the evaluation's folder."""
    return tuple(sample_path(point, place) for place in range(min(NUM_SAMPLES, num_images)))


def _spans(items: range, length: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of at most `length` neighbours at a time."""
    for first in items[::length]:
        yield first, min(first + length, items.stop)
