"""Stored CLIP features as one set, whatever their layout. Knows samples and captions; no file format, no CLIP."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple, Self, overload

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

from unclip.data.embedding_shards import EmbeddingPart, Layout, Recent, Statistics, TextRow, embedding_files, open_own
from unclip.data.foreign_embeddings import LAYOUTS, image_folder, open_foreign
from unclip.errors import DataError

EMPTY = -1
Indices = Int[np.ndarray, " rows"]


class TextRows(NamedTuple):
    """Features of texts as CLIP's `encode_text` gives them, float32; hidden states are zero on the padding."""

    embedding: Float32[Tensor, "rows dim"]
    hidden: Float32[Tensor, "rows length width"] | None
    """Padded to the set's `text_length`; None where they are not stored."""
    mask: Bool[Tensor, "rows length"] | None
    """True from the start token to the end token."""


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """The CLIP features of a data set, read by rows from mapped files. It can be sent to other processes."""

    location: str
    """Where it is, for messages."""
    layout: Layout

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """The set in a folder: shards of `unclip embed`, or arrays as clip-retrieval and DALLE2-pytorch lay them out.

        Raises `DataError` for a folder that holds none of these, is not finished, or mixes models.
        """
        folder = Path(location)
        if embedding_files(folder):
            return cls(str(folder), open_own(folder))
        if image_folder(folder) is not None:
            return cls(str(folder), open_foreign(folder))
        raise DataError(f"{folder} holds no embeddings ({LAYOUTS}); make some with `unclip embed SHARDS -o {folder}`.")

    @property
    def model_hash(self) -> str:
        """`clip_hash` of the CLIP that made the set; "" where the layout does not say."""
        return self.layout.model_hash

    @property
    def embedding_dim(self) -> int:
        """Size of image and text embeddings."""
        return self.layout.embedding_dim

    @property
    def text_dim(self) -> int:
        """Width of the hidden states of texts; 0 where they are not stored."""
        return self.layout.text_dim

    @property
    def text_length(self) -> int:
        """Tokens that hidden states are padded to; 0 where the layout does not say."""
        return self.layout.text_length

    @property
    def has_captions(self) -> bool:
        """Whether `captions` gives texts."""
        return self.layout.has_captions

    @property
    def has_texts(self) -> bool:
        """Whether `text` gives their features."""
        return self.layout.has_texts

    @property
    def shard_names(self) -> list[str]:
        """Names of the files, in order."""
        return [part.name for part in self.layout.parts]

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, those without an embedding included."""
        return [part.size for part in self.layout.parts]

    @cached_property
    def keys(self) -> "Keys":
        """The samples' keys, in order."""
        return Keys(self)

    @property
    def mean(self) -> Float32[Tensor, " dim"]:
        """Mean of the image embeddings."""
        return self._statistics.mean

    @property
    def std(self) -> Float32[Tensor, " dim"]:
        """Unbiased standard deviation of the image embeddings, per coordinate."""
        return self._statistics.std

    def __len__(self) -> int:
        return self._starts[-1]

    def image(self, indices: Indices) -> Float32[Tensor, "rows dim"]:
        """Image embeddings of samples; raises `DataError` naming the first that has none."""
        found = torch.empty(len(indices), self.embedding_dim)
        for part, places, rows in self._by_part(indices):
            valid = part.valid(rows)
            if not valid.all():
                key = part.keys[int(rows[~valid][0])]
                raise DataError(f"{self.location}: {key} has no image embedding, it was damaged; leave it out.")
            found[places] = part.image(rows)
        return found

    def valid(self, indices: Indices) -> Bool[np.ndarray, " rows"]:
        """Which samples have an image embedding."""
        found = torch.empty(len(indices), dtype=torch.bool)
        for part, places, rows in self._by_part(indices):
            found[places] = part.valid(rows)
        return found.numpy()

    def captions(self, index: int) -> list[str]:
        """The texts of a sample."""
        part, row = self._locate(index)
        return part.captions(row)

    def num_texts(self, index: int) -> int:
        """How many texts of a sample `text` has features of."""
        part, row = self._locate(index)
        return part.num_texts(row)

    def text(self, rows: Sequence[tuple[int, int]]) -> TextRows:
        """Features of (sample, caption number) pairs; caption -1 is the empty prompt.

        Raises `DataError` for a caption that is not there, and for the empty prompt of a set that does not know it.
        """
        found = [self._text(index, number) for index, number in rows]
        embedding = torch.stack([row.embedding for row in found]) if found else torch.empty(0, self.embedding_dim)
        if not self.text_dim:
            return TextRows(embedding, None, None)
        hidden = torch.zeros(len(found), self.text_length, self.text_dim)
        mask = torch.zeros(len(found), self.text_length, dtype=torch.bool)
        for number, row in enumerate(found):
            assert row.hidden is not None, rows[number]
            hidden[number, : len(row.hidden)] = row.hidden
            mask[number, : len(row.hidden)] = True
        return TextRows(embedding, hidden, mask)

    def find(self, keys: Sequence[str], missing_share: float = 0.0) -> Int64[np.ndarray, " rows"]:
        """The samples of these keys, -1 for one that is not there.

        Raises `DataError` naming the first of them where they are more than `missing_share` of the keys, or all.
        """
        if len(keys) == len(self) and all(map(str.__eq__, keys, self.keys)):
            return np.arange(len(self))
        number_of = {key: number for number, key in enumerate(self.keys)}
        missing = [key for key in keys if key not in number_of]
        if len(missing) > missing_share * len(keys) or len(missing) == len(keys) > 0:
            share = math.ceil(1000 * len(missing) / len(keys)) / 1000
            skip = f"skip them by data.missing_share={share:g}, or " if len(missing) < len(keys) else ""
            raise DataError(
                f"{self.location} has no embedding of {missing[0]} and {len(missing) - 1} more of {len(keys)} samples; "
                f"{skip}embed these pictures."
            )
        return np.array([number_of.get(key, -1) for key in keys], dtype=np.int64)

    def with_empty(
        self, embedding: Float32[Tensor, " dim"], hidden: Float32[Tensor, "tokens width"] | None = None
    ) -> "EmbeddingSet":
        """The set with these features of the empty prompt, which layouts of others do not hold."""
        return replace(self, layout=replace(self.layout, empty=TextRow(embedding, hidden)))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.shard_sizes)]

    @cached_property
    def _statistics(self) -> Statistics:
        return self.layout.statistics()

    @cached_property
    def _parts(self) -> Recent[int, EmbeddingPart]:
        return Recent(OpenPart(self.layout))

    def _text(self, index: int, number: int) -> TextRow:
        if number != EMPTY:
            part, row = self._locate(index)
            return part.text(row, number)
        if self.layout.empty is None:
            raise DataError(
                f"{self.location} does not hold the empty prompt's features, since it is not of `unclip embed`; "
                "give them with with_empty, or drop no texts."
            )
        return self.layout.empty

    def _locate(self, index: int) -> tuple[EmbeddingPart, int]:
        ((part, _, rows),) = self._by_part(np.array([index]))
        return part, int(rows[0])

    def _by_part(self, indices: Indices) -> Iterator[tuple[EmbeddingPart, Tensor, Tensor]]:
        """Each part that is asked for: it, the places of its samples among `indices`, and their rows in it."""
        outside = indices[(indices < 0) | (indices >= len(self))]
        if len(outside):
            raise DataError(f"{self.location} has no sample {outside[0]}; it has 0 to {len(self) - 1}.")
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(numbers):
            (places,) = np.nonzero(numbers == number)
            rows = indices[places].astype(np.int64) - self._starts[number]
            yield self._parts[int(number)], torch.from_numpy(places), torch.from_numpy(rows)


@dataclass(frozen=True)
class OpenPart:
    """Opens the parts of a layout by number."""

    layout: Layout

    def __call__(self, number: int) -> EmbeddingPart:
        """The part of that number."""
        return self.layout.parts[number].open()


@dataclass(frozen=True)
class Keys(Sequence[str]):
    """The keys of a set, read from its files when they are asked for."""

    owner: EmbeddingSet

    def __len__(self) -> int:
        return len(self.owner)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """A key, or those of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        part, row = self.owner._locate(range(len(self))[index])
        return part.keys[row]

    def __iter__(self) -> Iterator[str]:
        """All keys, part by part."""
        for number, _ in enumerate(pairwise(self.owner._starts)):
            yield from self.owner._parts[number].keys
