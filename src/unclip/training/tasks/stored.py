"""Embedding shards as the trainers use them: of the right model, complete, in the order of the pictures.

Knows stored features and the frozen CLIP; no network under training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unclip.clip import TextImageEncoder, clip_hash
from unclip.data import EmbeddingSet, Item, PictureSet
from unclip.errors import DataError
from unclip.training.tasks.common import divisor


def open_stored(location: str, encoder: TextImageEncoder | None) -> EmbeddingSet:
    """The features at `location`, with those of the empty prompt where a layout of others lacks them.

    Raises `DataError` when another model than `encoder` made them; sets of others do not say which.
    """
    stored = EmbeddingSet.open(location)
    if encoder is None:
        return stored
    if stored.model_hash:
        own = clip_hash(encoder)
        if own != stored.model_hash:
            raise DataError(
                f"{location} was made by another CLIP ({stored.model_hash[:12]}) than that of the run ({own[:12]}); "
                "name that CLIP, or embed again with `unclip embed`."
            )
        return stored
    empty = encoder.encode_text([""])
    hidden = empty.hidden[0, : int(empty.mask.sum())] if stored.text_dim else None
    return stored.with_empty(empty.embedding[0].cpu(), None if hidden is None else hidden.cpu())


def next_valid(stored: EmbeddingSet, indices: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """`indices`, where a sample without an embedding is replaced by the next that has one, and the names of those."""
    valid = stored.valid(indices)
    if valid.all():
        return indices, ()
    names = tuple(f"{stored.keys[int(index)]} has no embedding" for index in indices[~valid])
    found = indices.copy()
    for place in np.flatnonzero(~valid):
        later = (int(indices[place]) + np.arange(1, len(stored))) % len(stored)
        usable = next((row for row in later if stored.valid(np.array([row]))[0]), None)
        if usable is None:
            raise DataError(f"{stored.location} has no valid embedding at all; check the pictures and embed again.")
        found[place] = usable
    return found, names


@dataclass(frozen=True, eq=False)
class AlignedEmbeddings:
    """Stored features by the number of the picture, whatever their own order is."""

    stored: EmbeddingSet
    rows: np.ndarray
    """The set's number of each picture; -1 where it does not know it."""

    @classmethod
    def of(cls, stored: EmbeddingSet, keys: Sequence[str], missing_share: float = 0.0) -> "AlignedEmbeddings":
        """For pictures of these names; raises `DataError` where more than `missing_share` of them have no features."""
        return cls(stored, stored.find(keys, missing_share))

    @property
    def num_missing(self) -> int:
        """Pictures without a row in the set."""
        return int((self.rows < 0).sum())

    @property
    def mean(self) -> Tensor:
        """Mean of each coordinate."""
        return self.stored.mean

    @property
    def std(self) -> Tensor:
        """What each coordinate is divided by; see `divisor`."""
        return divisor(self.stored.mean, self.stored.std)

    def has(self, index: int) -> bool:
        """Whether this picture has an embedding; one that could not be read has none."""
        return bool(self.rows[index] >= 0 and self.stored.valid(self.rows[[index]])[0])

    def image(self, indices: np.ndarray) -> Tensor:
        """The image embeddings of these pictures; raises `DataError` naming the first that has none."""
        return self.stored.image(self.rows[indices])


@dataclass(frozen=True, eq=False)
class EmbeddedPictures:
    """A picture set in which a picture without an embedding counts as damaged: a whole other sample stands in."""

    pictures: PictureSet
    embeddings: AlignedEmbeddings

    @property
    def shard_sizes(self) -> list[int]:
        """See `PictureSet`."""
        return self.pictures.shard_sizes

    @property
    def keys(self) -> Sequence[str]:
        """See `PictureSet`."""
        return self.pictures.keys

    def __len__(self) -> int:
        return len(self.pictures)

    def captions(self, index: int) -> tuple[str, ...]:
        """See `PictureSet`."""
        return self.pictures.captions(index)

    def item(self, index: int) -> Item:
        """See `PictureSet`; raises `DataError` also where there is no embedding."""
        if not self.embeddings.has(index):
            raise DataError(f"{self.keys[index]} has no embedding")
        return self.pictures.item(index)
