"""Shards of embeddings: layout, statistics, reading and writing."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Float16, Float32, Float64, Int64
from torch import Tensor

from unclip.checkpoint import LazyTensor, TensorFile, open_tensors, write_tensors
from unclip.data.texts import Texts
from unclip.errors import CheckpointError, DataError

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


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of vectors, per coordinate, in float64."""

    count: int
    mean: Float64[Tensor, " dim"]
    deviations: Float64[Tensor, " dim"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "count dim"]) -> "Moments":
        """Those of (count, dim) vectors; of none, all zero."""
        exact = vectors.double()
        mean = exact.sum(dim=0) / max(len(exact), 1)
        return cls(len(exact), mean, ((exact - mean) ** 2).sum(dim=0))

    # Chan, Golub, LeVeque 1979, eq. 2.1: sums of squares themselves would cancel where the mean is large.
    def merge(self, other: "Moments") -> "Moments":
        """Those of both sets together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        deviations = self.deviations + other.deviations + delta**2 * (self.count * other.count / count)
        return Moments(count, mean, deviations)

    @property
    def std(self) -> Float64[Tensor, " dim"]:
        """The unbiased standard deviation, 0 of a single vector."""
        return (self.deviations / max(self.count - 1, 1)).sqrt()


def merge_all(parts: Iterable[Moments], dim: int) -> Moments:
    """All parts together, merged in their order: the same parts give the same bits."""
    return reduce(Moments.merge, parts, Moments.of(torch.empty(0, dim)))


STATISTICS_FILE = "statistics.safetensors"
KIND, STATISTICS_KIND, VERSION = "embeddings", "embedding_statistics", "1"
AGAIN = "run the same `unclip embed` again"


class ShardHeader(NamedTuple):
    """What a shard says of itself, without its rows."""

    num_samples: int
    model_hash: str
    embedding_dim: int
    text_dim: int
    """Width of the hidden states; 0 where they are not stored."""
    text_length: int
    """Tokens of CLIP's context."""
    damaged: dict[str, str]
    """Samples without an image embedding: key, and the reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedShard:
    """The features of one shard of pictures, in memory."""

    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    """Of each sample."""
    damaged: Mapping[str, str]
    """Keys of samples that could not be read, and why; their rows of `image_embedding` mean nothing."""
    image_embedding: Float16[Tensor, "samples dim"]
    text_embedding: Float16[Tensor, "texts dim"]
    """Of all captions, sample after sample."""
    text_hidden: Float16[Tensor, "tokens width"] | None
    """States of all captions, from the start token to the end token, one caption after the other."""
    num_tokens: Sequence[int]
    """Of each caption; empty without `text_hidden`."""
    model_hash: str
    text_length: int


def write_embedding_shard(path: Path, shard: EmbeddedShard) -> None:
    """Write a shard atomically; equal content gives equal bytes."""
    is_valid = torch.tensor([key not in shard.damaged for key in shard.keys], dtype=torch.bool)
    moments = Moments.of(shard.image_embedding[is_valid])
    tensors = {
        "image_embedding": shard.image_embedding.masked_fill(~is_valid[:, None], 0.0),
        "is_valid": is_valid,
        "image_mean": moments.mean,
        "image_deviations": moments.deviations,
        "text_embedding": shard.text_embedding,
        "caption_start": starts_of([len(captions) for captions in shard.captions]),
        **_packed("key", shard.keys),
        **_packed("caption", [caption for captions in shard.captions for caption in captions]),
    }
    if shard.text_hidden is not None:
        tensors |= {"text_hidden": shard.text_hidden, "token_start": starts_of(shard.num_tokens)}
    metadata = {
        **_metadata(KIND, shard.model_hash),
        "text_length": str(shard.text_length),
        "damaged": json.dumps(dict(shard.damaged), sort_keys=True),
    }
    write_tensors(path, {name: LazyTensor.of(tensor) for name, tensor in tensors.items()}, metadata)


def write_statistics(folder: Path, empty: TextRow) -> Path:
    """Merge the statistics of all shards in `folder`, in the order of their names, and keep them beside the shards."""
    files = embedding_files(folder)
    header = read_header(files[0])
    moments = merge_all(map(_read_moments, files), header.embedding_dim)
    tensors = {
        "mean": moments.mean.float(),
        "std": moments.std.float(),
        "empty_embedding": empty.embedding.half(),
        **({} if empty.hidden is None else {"empty_hidden": empty.hidden.half()}),
    }
    counts = {"num_samples": str(moments.count), "num_shards": str(len(files))}
    path = folder / STATISTICS_FILE
    lazy = {name: LazyTensor.of(tensor) for name, tensor in tensors.items()}
    write_tensors(path, lazy, _metadata(STATISTICS_KIND, header.model_hash) | counts)
    return path


def embedding_files(folder: Path) -> list[Path]:
    """Our shards in `folder`, sorted by name."""
    return sorted(path for path in folder.glob("*.safetensors") if path.name != STATISTICS_FILE)


def read_header(path: Path) -> ShardHeader:
    """What a shard says of itself; raises `DataError` for a file that is damaged or something else."""
    tensors, metadata = _open(path, KIND)
    num_samples, embedding_dim = tensors["image_embedding"].shape
    return ShardHeader(
        num_samples=num_samples,
        model_hash=metadata["model_hash"],
        embedding_dim=embedding_dim,
        text_dim=tensors["text_hidden"].shape[1] if "text_hidden" in tensors else 0,
        text_length=int(metadata["text_length"]),
        damaged=json.loads(metadata["damaged"]),
    )


def read_keys(path: Path) -> list[str]:
    """The keys of a shard's samples."""
    return list(OwnPart(path).keys)


def open_own(folder: Path) -> Layout:
    """The set in `folder`; raises `DataError` where shards are of different models or the statistics are not theirs."""
    files = embedding_files(folder)
    headers = [read_header(path) for path in files]
    first = headers[0]
    for path, header in zip(files, headers, strict=True):
        if (header.model_hash, header.text_dim) != (first.model_hash, first.text_dim):
            raise DataError(
                f"{path} was made by the model {described(header)}, but {files[0].name} by {described(first)}; "
                "keep the sets of two models in two folders."
            )
    tensors, _ = _statistics(folder, first.model_hash, len(files))
    mean, std, embedding = (tensors[name].read().float() for name in ("mean", "std", "empty_embedding"))
    hidden = tensors["empty_hidden"].read().float() if first.text_dim else None
    parts = zip(files, headers, strict=True)
    return Layout(
        parts=tuple(PartFile(name=path.name, size=h.num_samples, open=partial(OwnPart, path)) for path, h in parts),
        model_hash=first.model_hash,
        embedding_dim=first.embedding_dim,
        text_dim=first.text_dim,
        text_length=first.text_length,
        statistics=partial(Statistics, mean, std),
        empty=TextRow(embedding, hidden),
    )


def described(header: ShardHeader) -> str:
    """A model as messages name it."""
    return f"{header.model_hash[:12]} {'with' if header.text_dim else 'without'} hidden states"


class OwnPart(EmbeddingPart):
    """The rows of one shard, mapped from its file."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raises `DataError` for a file that is damaged or something else."""
        tensors, _ = _open(path, KIND)
        self._name = path.name
        self._tensors = {name: tensor.read() for name, tensor in tensors.items()}
        self._keys, self._captions = self._texts("key"), self._texts("caption")

    @property
    def keys(self) -> Sequence[str]:
        """Of the samples, in order."""
        return self._keys

    def image(self, rows: Int64[Tensor, " rows"]) -> Float32[Tensor, "rows dim"]:
        """Image embeddings of rows."""
        return self._tensors["image_embedding"][rows].float()

    def valid(self, rows: Int64[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Which rows have an image embedding."""
        return self._tensors["is_valid"][rows]

    def captions(self, row: int) -> list[str]:
        """The texts of a row."""
        return [self._captions[number] for number in self._range("caption_start", row)]

    def num_texts(self, row: int) -> int:
        """See `EmbeddingPart`."""
        return len(self._range("caption_start", row))

    def text(self, row: int, number: int) -> TextRow:
        """Features of one of a row's texts."""
        numbers = self._range("caption_start", row)
        if not 0 <= number < len(numbers):
            raise DataError(
                f"{self._name}: {self.keys[row]} has {len(numbers)} captions and none of number {number}; "
                f"use 0 to {len(numbers) - 1}, or -1 for the empty prompt."
            )
        embedding = self._tensors["text_embedding"][numbers[number]].float()
        if "text_hidden" not in self._tensors:
            return TextRow(embedding, None)
        tokens = self._range("token_start", numbers[number])
        return TextRow(embedding, self._tensors["text_hidden"][tokens.start : tokens.stop].float())

    def _range(self, name: str, row: int) -> range:
        return range(*self._tensors[name][row : row + 2].tolist())

    def _texts(self, name: str) -> Texts:
        content, ends = (self._tensors[f"{name}_{part}"].numpy() for part in ("bytes", "byte_start"))
        return Texts(content, ends)


def starts_of(lengths: Sequence[int]) -> Int64[Tensor, " ends"]:
    """Where each of several neighbours of these lengths starts, and last where they end."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int64)


def _packed(name: str, texts: Iterable[str]) -> dict[str, Tensor]:
    packed = Texts.of(texts)
    return {
        f"{name}_bytes": torch.from_numpy(packed.content),
        f"{name}_byte_start": torch.from_numpy(packed.ends),
    }


def _read_moments(path: Path) -> Moments:
    tensors, _ = _open(path, KIND)
    count = int(tensors["is_valid"].read().sum())
    return Moments(count, tensors["image_mean"].read(), tensors["image_deviations"].read())


def _statistics(folder: Path, model_hash: str, num_shards: int) -> TensorFile:
    path = folder / STATISTICS_FILE
    if not path.exists():
        raise DataError(f"{folder} is not finished: it has no {STATISTICS_FILE}; {AGAIN}.")
    opened = _open(path, STATISTICS_KIND)
    found = (opened.metadata["model_hash"], int(opened.metadata["num_shards"]))
    if found != (model_hash, num_shards):
        raise DataError(
            f"{path} is of {found[1]} shards of the model {found[0][:12]}, but {folder} holds {num_shards} of "
            f"{model_hash[:12]}; {AGAIN}."
        )
    return opened


def _metadata(kind: str, model_hash: str) -> dict[str, str]:
    return {"format": "unclip", "kind": kind, "version": VERSION, "model_hash": model_hash}


def _open(path: Path, kind: str) -> TensorFile:
    try:
        opened = open_tensors(path)
    except CheckpointError as error:
        raise DataError(f"{error} To compute it again, remove it and {AGAIN}.") from None
    found = (opened.metadata.get("kind", "unknown tensors"), opened.metadata.get("version"))
    if found != (kind, VERSION):
        raise DataError(
            f"{path} holds {found[0]!r} of version {found[1]}, not {kind!r} of version {VERSION}; give another folder."
        )
    return opened
