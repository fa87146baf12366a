"""Read stored CLIP features as one set, whatever their layout."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

from unclip.data.embedding_shards import EmbeddingPart, Layout, Rows, Statistics, TextRow, embedding_files, open_shards
from unclip.data.foreign_embeddings import LAYOUTS, image_folder, open_foreign
from unclip.data.texts import PackedTexts
from unclip.errors import DataError

EMPTY = -1
NUM_OPEN = 32
"""Parts that stay open: each keeps up to ten files mapped, and a process may open about a thousand."""
Indices = Int[np.ndarray, " rows"]


class TextRows(NamedTuple):
    """Features of texts as CLIP's `encode_text` gives them, float32; hidden states are zero on the padding."""

    embedding: Float32[Tensor, "rows dim"]
    hidden: Float32[Tensor, "rows length width"] | None
    """Padded to the set's `text_length`; None if they are not stored."""
    mask: Bool[Tensor, "rows length"] | None
    """True from the start token to the end token."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingSet(Layout):
    """The CLIP features of a data set, read by rows from mapped files; picklable."""

    location: str
    """The folder, for messages."""

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Open the set in a folder: shards of `unclip embed`, or arrays of clip-retrieval and DALLE2-pytorch.

        Raises `DataError` for a folder that holds none of these, is not finished, or mixes models.
        """
        folder = Path(location)
        if embedding_files(folder):
            return cls(location=str(folder), **vars(open_shards(folder)))
        if image_folder(folder) is not None:
            return cls(location=str(folder), **vars(open_foreign(folder)))
        raise DataError(f"{folder} holds no embeddings ({LAYOUTS}); make some with `unclip embed SHARDS -o {folder}`.")

    @property
    def shard_names(self) -> list[str]:
        """Names of the files, in order."""
        return [part.name for part in self.parts]

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, those without an embedding included."""
        return [part.size for part in self.parts]

    @cached_property
    def keys(self) -> Sequence[str]:
        """The samples' keys, in order; all are read when the first is requested."""
        return PackedTexts.of(chain.from_iterable(self._part(number).keys() for number in range(len(self.parts))))

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
        """Read the image embeddings of samples; raises `DataError` naming the first that has none."""
        embeddings = torch.empty(len(indices), self.embedding_dim)
        for part, positions, rows in self._by_part(indices):
            valid = part.valid(rows)
            if not valid.all():
                key = part.keys()[int(rows[~valid.numpy()][0])]
                raise DataError(f"{self.location}: {key} has no image embedding, it was damaged; leave it out.")
            embeddings[positions] = part.image(rows)
        return embeddings

    def valid(self, indices: Indices) -> Bool[np.ndarray, " rows"]:
        """Return which samples have an image embedding."""
        valid = torch.empty(len(indices), dtype=torch.bool)
        for part, positions, rows in self._by_part(indices):
            valid[positions] = part.valid(rows)
        return valid.numpy()

    def captions(self, index: int) -> list[str]:
        """Read the texts of a sample."""
        part, row = self._locate(index)
        return part.captions(row)

    def num_texts(self, index: int) -> int:
        """Count the texts of a sample whose features `text` reads."""
        part, row = self._locate(index)
        return part.num_texts(row)

    def text(self, rows: Sequence[tuple[int, int]]) -> TextRows:
        """Read the features of (sample, caption number) pairs; caption -1 is the empty prompt.

        Raises `DataError` for a caption that does not exist, and for the empty prompt of a set without its features.
        """
        features = [self._text_row(index, number) for index, number in rows]
        embedding = torch.stack([row.embedding for row in features]) if rows else torch.empty(0, self.embedding_dim)
        if not self.text_dim:
            return TextRows(embedding, None, None)
        hidden = torch.zeros(len(rows), self.text_length, self.text_dim)
        mask = torch.zeros(len(rows), self.text_length, dtype=torch.bool)
        for number, row in enumerate(features):
            assert row.hidden is not None, rows[number]
            hidden[number, : len(row.hidden)] = row.hidden
            mask[number, : len(row.hidden)] = True
        return TextRows(embedding, hidden, mask)

    def find(self, keys: Sequence[str], missing_share: float = 0.0) -> Int64[np.ndarray, " rows"]:
        """Find the samples of these keys, -1 for a missing one.

        Raises `DataError` naming the first missing key if they are more than `missing_share` of the keys, or all.
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
        """Return the set with these features of the empty prompt, which foreign layouts do not hold."""
        return replace(self, empty=TextRow(embedding, hidden))

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files, and texts that can be read again, with the process that opened them."""
        return {name: value for name, value in vars(self).items() if name not in ("_part", "keys")}

    @cached_property
    def _part(self) -> Callable[[int], EmbeddingPart]:
        return lru_cache(maxsize=NUM_OPEN)(lambda number: self.parts[number].open())

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.shard_sizes)]

    @cached_property
    def _statistics(self) -> Statistics:
        return self.statistics()

    def _text_row(self, index: int, number: int) -> TextRow:
        if number != EMPTY:
            part, row = self._locate(index)
            return part.text(row, number)
        if self.empty is None:
            raise DataError(
                f"{self.location} does not hold the empty prompt's features, since it is not of `unclip embed`; "
                "give them with with_empty, or drop no texts."
            )
        return self.empty

    def _locate(self, index: int) -> tuple[EmbeddingPart, int]:
        ((part, _, rows),) = self._by_part(np.array([index]))
        return part, int(rows[0])

    def _by_part(self, indices: Indices) -> Iterator[tuple[EmbeddingPart, Tensor, Rows]]:
        """Yield each part that holds some of the samples, their positions in `indices`, and their rows in the part."""
        outside = indices[(indices < 0) | (indices >= len(self))]
        if len(outside):
            raise DataError(f"{self.location} has no sample {outside[0]}; it has 0 to {len(self) - 1}.")
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(numbers):
            (positions,) = np.nonzero(numbers == number)
            rows = indices[positions].astype(np.int64) - self._starts[number]
            yield self._part(int(number)), torch.from_numpy(positions), rows
