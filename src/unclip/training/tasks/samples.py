"""Read samples for training: pictures, image embeddings, captions as tokens or as stored features."""

import abc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from unclip.clip import TextFeatures, TextImageEncoder, Tokenizer, clip_hash
from unclip.data import (
    Compositions,
    EmbeddingSet,
    Item,
    PictureSet,
    emoji_items,
    item_or_next,
    open_pictures,
    probe_uncaptioned,
    write_shards,
)
from unclip.errors import DataError
from unclip.images import from_uint8
from unclip.training.config import DataConfig
from unclip.training.task import Batch, Request

EMBED_BATCH = 256
NO_CAPTION = -1
LEAST_STD = 1e-6
"""Deviation, as a share of a coordinate's size, below which it is rounding."""
Captions: TypeAlias = Sequence[Sequence[str]]
"""The captions of each sample."""
TextReader: TypeAlias = Callable[[Sequence[int], Captions, Sequence[int]], dict[str, Tensor]]
"""Turns one caption of each sample into tensors: of the samples' numbers, their captions, and the numbers of the chosen
ones, -1 for the empty prompt."""


@contextmanager
def clip_precision(device: torch.device) -> Iterator[None]:
    """Run a frozen CLIP in the type of its weights: without gradients, and without the autocast of training."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def load_pictures(config: DataConfig, *image_sizes: int, channels: int = 3) -> PictureSet:
    """Open the pictures at these sizes, RGB or with coverage; the emoji set is drawn first if its folder is missing."""
    if config.emoji_split is not None and not Path(config.folder).exists():
        items = emoji_items(config.emoji_split)
        count = min(config.compositions, config.limit or config.compositions)
        write_shards(
            config.folder,
            items[:: config.every][: config.limit],
            config.source_size,
            f"emoji-{config.emoji_split}",
            compositions=Compositions(items, count) if count else None,
            num_workers=1 if config.limit else 2,
        )
    return open_pictures(config.folder, image_sizes, channels=channels, cache=config.cache)


def caption_notes(pictures: PictureSet, location: str, *, is_required: bool = True) -> tuple[str, ...]:
    """Return a line about pictures without a caption, if there are some.

    Raises `DataError` if no picture has one and captions are required: there is nothing to learn from.
    """
    missing, count = probe_uncaptioned(pictures)
    if missing and missing == count and is_required:
        raise DataError(
            f"none of {count:,} pictures in {location} has a caption; if they stand in another field, write shards "
            "with them by `unclip data prepare --caption-column FIELD`."
        )
    return (f"{missing:,} of {count:,} pictures have no caption; their text is empty.",) if missing else ()


def read_items(
    pictures: PictureSet, indices: Sequence[int] | np.ndarray
) -> tuple[list[Item], np.ndarray, tuple[str, ...]]:
    """Read the samples of these numbers; the next readable one takes the place of each that is damaged.

    Returns the samples, their numbers, and a line for each that is damaged.
    """
    read = [item_or_next(pictures, int(index)) for index in indices]
    skipped = tuple(name for _, _, names in read for name in names)
    return [item for item, _, _ in read], np.array([index for _, index, _ in read], np.int64), skipped


def stack_pixels(items: Sequence[Item], image_size: int) -> Tensor:
    """Stack the items' pictures at a size, uint8 (items, height, width, 3)."""
    return torch.from_numpy(np.stack([item.pixels[image_size] for item in items]))


@dataclass(frozen=True, eq=False)
class ImageEmbeddings:
    """Image embeddings by the number of their sample, from memory or from stored shards, and their statistics."""

    mean: Tensor
    """Mean of each coordinate."""
    std: Tensor
    """What each coordinate is divided by: its deviation, or 1 if it is the same in all samples."""
    table: Tensor | None = None
    """(samples, dim) float32, in memory."""
    stored: EmbeddingSet | None = None
    rows: np.ndarray | None = None
    """The stored set's number of each sample, -1 for one that it lacks; None: the numbers are the same."""

    @classmethod
    def of_table(cls, table: Tensor) -> "ImageEmbeddings":
        """Hold embeddings in memory."""
        mean, std = table.mean(dim=0), table.std(dim=0, correction=min(1, len(table) - 1))
        return cls(mean, _divisor(mean, std), table=table)

    @classmethod
    def of_shards(cls, stored: EmbeddingSet, rows: np.ndarray | None = None) -> "ImageEmbeddings":
        """Read stored embeddings when they are needed."""
        return cls(stored.mean, _divisor(stored.mean, stored.std), stored=stored, rows=rows)

    @classmethod
    def zeros(cls, num_samples: int, embedding_dim: int) -> "ImageEmbeddings":
        """Stand in for the embeddings that an unconditional decoder never reads."""
        zeros = torch.zeros(embedding_dim)
        return cls(zeros, torch.ones(embedding_dim), table=zeros.expand(num_samples, -1))

    def __call__(self, indices: np.ndarray) -> Tensor:
        """Return the embeddings of these samples, (samples, dim); raises `DataError` naming the first without one."""
        if self.table is not None:
            return self.table[torch.from_numpy(np.asarray(indices))]
        assert self.stored is not None, "embeddings are in memory or stored"
        return self.stored.image(indices if self.rows is None else self.rows[indices])

    def has(self, index: int) -> bool:
        """Return whether this sample has an embedding; a picture that could not be read has none."""
        if self.stored is None:
            return True
        row = index if self.rows is None else self.rows[index]
        return bool(row >= 0 and self.stored.valid(np.array([row]))[0])


def embed_pictures(encoder: TextImageEncoder, pictures: PictureSet, limit: int | None = None) -> ImageEmbeddings:
    """Embed all pictures with CLIP, or `limit` of them spread over the set."""
    count = len(pictures)
    chosen = np.arange(count) if limit is None else np.unique(np.linspace(0, count - 1, min(limit, count)).astype(int))
    parts = []
    with clip_precision(encoder.device):
        for start in range(0, len(chosen), EMBED_BATCH):
            items, _, _ = read_items(pictures, chosen[start : start + EMBED_BATCH])
            pixels = from_uint8(stack_pixels(items, encoder.clip.config.image_size)).to(encoder.device)
            parts.append(encoder.encode_image(pixels).cpu())
    return ImageEmbeddings.of_table(torch.cat(parts))


def _divisor(mean: Tensor, std: Tensor) -> Tensor:
    """Return the standard deviation of each coordinate, and 1 for those that are the same in all pictures.

    A single picture has no deviation at all. Divided by next to nothing, the rounding of an embedding, and any picture
    that differs from the training set, would become numbers of any size.
    """
    return torch.where(std > LEAST_STD * mean.abs().clamp_min(1.0), std, torch.ones_like(std))


@dataclass(frozen=True, eq=False)
class UsablePictures(abc.ABC):
    """A `PictureSet` of which a picture may be of no use though it is whole: `item` then says why, as for damage."""

    pictures: PictureSet

    @property
    def shard_sizes(self) -> list[int]:
        return self.pictures.shard_sizes

    @property
    def keys(self) -> Sequence[str]:
        return self.pictures.keys

    def __len__(self) -> int:
        return len(self.pictures)

    def captions(self, index: int) -> tuple[str, ...]:
        return self.pictures.captions(index)

    @abc.abstractmethod
    def item(self, index: int) -> Item: ...


@dataclass(frozen=True, eq=False)
class EmbeddedPictures(UsablePictures):
    """A `PictureSet` in which a picture without an embedding counts as damaged: a whole other sample stands in."""

    embeddings: ImageEmbeddings

    def item(self, index: int) -> Item:
        if not self.embeddings.has(index):
            raise DataError(f"{self.keys[index]} has no embedding")
        return self.pictures.item(index)


def open_stored(location: str, encoder: TextImageEncoder | None) -> EmbeddingSet:
    """Open the features at `location`, adding those of the empty prompt if a third-party layout lacks them.

    Raises `DataError` when another model than `encoder` made them, which third-party sets do not say.
    """
    stored = EmbeddingSet.open(location)
    if encoder is None:
        return stored
    if stored.model_hash:
        if (run_hash := clip_hash(encoder)) != stored.model_hash:
            raise DataError(
                f"{location} was made by another CLIP ({stored.model_hash[:12]}) than that of the run "
                f"({run_hash[:12]}); name that CLIP, or embed again with `unclip embed`."
            )
        return stored
    empty = encoder.encode_text([""])
    hidden = empty.hidden[0, : int(empty.mask.sum())] if stored.text_dim else None
    return stored.with_empty(empty.embedding[0].cpu(), None if hidden is None else hidden.cpu())


def next_valid(stored: EmbeddingSet, indices: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Replace each sample without an embedding by the next that has one; returns the indices and a line for each."""
    replaced, names = indices.copy(), list[str]()
    for place in np.flatnonzero(~stored.valid(indices)):
        index = int(indices[place])
        later = (index + np.arange(1, len(stored))) % len(stored)
        row = next((row for row in later if stored.valid(np.array([row]))[0]), None)
        if row is None:
            raise DataError(f"{stored.location} has no valid embedding at all; check the pictures and embed again.")
        replaced[place] = row
        names.append(f"{stored.keys[index]} has no embedding")
    return replaced, tuple(names)


@dataclass(frozen=True)
class Tokens:
    """Captions as token ids, which a CLIP reads in the loss."""

    tokenizer: Tokenizer
    context_length: int

    def __call__(self, indices: Sequence[int], captions: Captions, chosen: Sequence[int]) -> dict[str, Tensor]:
        pairs = zip(captions, chosen, strict=True)
        prompts = ["" if number == NO_CAPTION else texts[number] for texts, number in pairs]
        tokens = self.tokenizer.encode(prompts, self.context_length)
        return {"text_ids": tokens.ids, "text_length": tokens.mask.sum(dim=1)}


@dataclass(frozen=True)
class StoredTexts:
    """Captions as the features that `unclip embed` stored."""

    stored: EmbeddingSet
    rows: np.ndarray | None = None
    """The set's number of each sample; None: the numbers are the same."""

    def __call__(self, indices: Sequence[int], captions: Captions, chosen: Sequence[int]) -> dict[str, Tensor]:
        numbers = indices if self.rows is None else self.rows[np.asarray(indices)].tolist()
        embedding, hidden, mask = self.stored.text(list(zip(numbers, chosen, strict=True)))
        if hidden is None or mask is None:
            return {"text_embedding": embedding}
        length = mask.sum(dim=1)
        return {"text_embedding": embedding, "text_hidden": hidden, "text_mask": mask, "text_length": length}


def choose_captions(captions: Captions, request: Request, drop_prob: float) -> list[int]:
    """Draw one of each sample's captions, or the empty prompt with `drop_prob`."""
    chosen = []
    for texts, generator in zip(captions, request.generators, strict=True):
        number = int(torch.randint(len(texts), (), generator=generator))
        is_dropped = float(torch.rand((), generator=generator)) < drop_prob
        chosen.append(NO_CAPTION if is_dropped else number)
    return chosen


def text_features(batch: Batch, encoder: TextImageEncoder | None) -> TextFeatures:
    """Return the text features of a batch: stored ones, those of its tokens by the frozen CLIP, or empty ones."""
    if "text_ids" in batch.tensors:
        assert encoder is not None, "tokens need a CLIP that reads them"
        with clip_precision(encoder.device):
            return encoder.clip.encode_tokens(batch["text_ids"])
    embedding = batch["text_embedding" if "text_embedding" in batch.tensors else "image_embedding"]
    if "text_hidden" in batch.tensors:
        return TextFeatures(embedding, batch["text_hidden"], batch["text_mask"])
    hidden = embedding.new_zeros(len(embedding), 0, 1)
    return TextFeatures(embedding, hidden, hidden[..., 0].bool())
