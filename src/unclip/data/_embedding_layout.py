"""What every layout of stored CLIP features offers to `EmbeddingSet`. Knows no file format."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from jaxtyping import Bool, Float32, Int64
from torch import Tensor

__all__ = ["EmbeddingPart", "Layout", "PartFile", "Recent", "Statistics", "TextRow"]

K = TypeVar("K")
V = TypeVar("V")
# Each keeps ten files mapped, and a process may open about a thousand.
NUM_RECENT = 32


class Statistics(NamedTuple):
    """Of the image embeddings, per coordinate, float32."""

    mean: Float32[Tensor, " dim"]
    std: Float32[Tensor, " dim"]


class TextRow(NamedTuple):
    """Features of one text, float32."""

    embedding: Float32[Tensor, " dim"]
    hidden: Float32[Tensor, "tokens width"] | None
    """States from the start token to the end token; None where they are not stored."""


class EmbeddingPart(ABC):
    """The features of one shard, read by rows."""

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """Of the samples, in order."""

    @abstractmethod
    def image(self, rows: Int64[Tensor, " rows"]) -> Float32[Tensor, "rows dim"]:
        """Image embeddings of rows; those of missing ones mean nothing."""

    @abstractmethod
    def valid(self, rows: Int64[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Which rows have an image embedding."""

    @abstractmethod
    def captions(self, row: int) -> list[str]:
        """The texts of a row."""

    @abstractmethod
    def num_texts(self, row: int) -> int:
        """How many texts a row has features of."""

    @abstractmethod
    def text(self, row: int, number: int) -> TextRow:
        """Features of a row's text; raises `DataError` where there is none of that number."""


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A part that is not open: cheap to keep and to send to another process."""

    name: str
    size: int
    open: Callable[[], EmbeddingPart]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A set of stored features, as a reader of one layout found it."""

    parts: tuple[PartFile, ...]
    model_hash: str
    embedding_dim: int
    text_dim: int
    text_length: int
    statistics: Callable[[], Statistics]
    empty: TextRow | None
    """Features of the empty prompt, where they are known."""
    has_captions: bool = True
    """Whether the texts themselves are there."""
    has_texts: bool = True
    """Whether features of the texts are there."""


class Recent(Generic[K, V]):
    """Values made when they are asked for, of which the last few are kept. A copy in another process starts empty."""

    def __init__(self, make: Callable[[K], V], size: int = NUM_RECENT) -> None:
        self._make, self._size = make, size
        self._values: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        """The value of `key`."""
        value = self._values.pop(key) if key in self._values else self._make(key)
        self._values[key] = value
        if len(self._values) > self._size:
            del self._values[next(iter(self._values))]
        return value

    def __reduce__(self) -> tuple[type["Recent[K, V]"], tuple[Callable[[K], V], int]]:
        """Files stay with the process that opened them."""
        return type(self), (self._make, self._size)
