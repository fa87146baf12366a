"""Define, read and write stored CLIP features: a file of safetensors for each shard, and one of statistics."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float32, Float64, Int64
from torch import Tensor

from unclip.checkpoint import LazyTensor, TensorFile, open_tensors, write_tensors
from unclip.data.texts import PackedTexts
from unclip.errors import CheckpointError, DataError

STATISTICS_FILE = "statistics.safetensors"
KIND, STATISTICS_KIND, VERSION = "embeddings", "embedding_statistics", "1"
ARRAYS = ("image_embedding", "is_valid", "text_embedding", "caption_start", "text_hidden", "token_start")
AGAIN = "run the same `unclip embed` again"
Rows = Int64[np.ndarray, " rows"]


class Statistics(NamedTuple):
    """Mean and deviation of the image embeddings, per coordinate, float32."""

    mean: Float32[Tensor, " dim"]
    std: Float32[Tensor, " dim"]


class TextRow(NamedTuple):
    """Features of one text, float32."""

    embedding: Float32[Tensor, " dim"]
    hidden: Float32[Tensor, "tokens width"] | None
    """States from the start token to the end token; None if they are not stored."""


@dataclass(kw_only=True, eq=False)
class EmbeddingPart:
    """The features of one shard, mapped from its files and read by rows."""

    name: str
    image_embedding: Float[np.ndarray, "samples dim"]
    is_valid: Bool[np.ndarray, " samples"] | None
    """Samples with an image embedding; None: those whose embedding is finite and not zero."""
    text_embedding: Float[np.ndarray, "texts dim"] | None
    caption_start: Int64[np.ndarray, " samples+1"]
    """The first text of each sample, and last the number of texts."""
    text_hidden: Float[np.ndarray, "tokens width"] | None = None
    token_start: Int64[np.ndarray, " texts+1"] | None = None
    """The first row in `text_hidden` of each text, and last the number of rows."""
    keys: Callable[[], Sequence[str]]
    """Reads the keys of the samples, once."""
    all_captions: Callable[[], Sequence[str] | None]
    """Reads the texts, once; None if they are not stored."""

    def image(self, rows: Rows) -> Float32[Tensor, "rows dim"]:
        """Read the image embeddings of rows; those of missing ones are undefined."""
        return torch.from_numpy(self.image_embedding[rows].astype(np.float32))

    def valid(self, rows: Rows) -> Bool[Tensor, " rows"]:
        """Return which rows have an image embedding."""
        return is_valid(self.image_embedding[rows]) if self.is_valid is None else torch.from_numpy(self.is_valid[rows])

    def captions(self, row: int) -> list[str]:
        """Read the texts of a row; raises `DataError` if they are not stored."""
        texts = self.all_captions()
        if texts is None:
            raise DataError(
                f"{self.name} comes without captions (metadata/*.parquet with a column caption or text); "
                "take them from the pictures' shards."
            )
        return [texts[number] for number in self._numbers(row)]

    def num_texts(self, row: int) -> int:
        """Count the texts of a row whose features are stored."""
        return 0 if self.text_embedding is None else len(self._numbers(row))

    def text(self, row: int, number: int) -> TextRow:
        """Read the features of one of a row's texts; raises `DataError` for a number without a text."""
        if self.text_embedding is None:
            raise DataError(
                f"{self.name} comes without text embeddings (text_emb/*.npy); embed the captions with `unclip embed`."
            )
        numbers = self._numbers(row)
        if not 0 <= number < len(numbers):
            raise DataError(
                f"{self.name}: {self.keys()[row]} has {len(numbers)} captions and none of number {number}; "
                f"use 0 to {len(numbers) - 1}, or -1 for the empty prompt."
            )
        embedding = torch.from_numpy(self.text_embedding[numbers[number]].astype(np.float32))
        if self.text_hidden is None or self.token_start is None:
            return TextRow(embedding, None)
        first, last = self.token_start[numbers[number] : numbers[number] + 2]
        return TextRow(embedding, torch.from_numpy(self.text_hidden[first:last].astype(np.float32)))

    def _numbers(self, row: int) -> range:
        return range(*self.caption_start[row : row + 2].tolist())


def is_valid(rows: np.ndarray) -> Bool[Tensor, " rows"]:
    """Return which rows are finite and not zero."""
    return torch.from_numpy(np.any(rows != 0, axis=1) & np.isfinite(rows).all(axis=1))


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A part that is not open: cheap to keep and to send to another process."""

    name: str
    size: int
    open: Callable[[], EmbeddingPart]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A set of stored features, as the reader of one layout describes it."""

    parts: tuple[PartFile, ...]
    model_hash: str
    """`clip_hash` of the CLIP that made the set; "" if the layout does not say."""
    embedding_dim: int
    """Size of image and text embeddings."""
    text_dim: int
    """Width of the hidden states of texts; 0 if they are not stored."""
    text_length: int
    """Tokens that hidden states are padded to; 0 if the layout does not say."""
    statistics: Callable[[], Statistics]
    empty: TextRow | None
    """Features of the empty prompt, if they are known."""
    has_captions: bool = True
    """Whether the texts are stored."""
    has_texts: bool = True
    """Whether features of the texts are stored."""


class ShardHeader(NamedTuple):
    """The description of a shard, without its rows."""

    num_samples: int
    model_hash: str
    embedding_dim: int
    text_dim: int
    """Width of the hidden states; 0 if they are not stored."""
    text_length: int
    """Tokens of CLIP's context."""
    damaged: dict[str, str]
    """Samples without an image embedding: key, and the reason."""

    def __str__(self) -> str:
        return f"{self.model_hash[:12]} {'with' if self.text_dim else 'without'} hidden states"


def embedding_files(folder: Path) -> list[Path]:
    """List the shards of features in `folder`, sorted by name."""
    return sorted(path for path in folder.glob("*.safetensors") if path.name != STATISTICS_FILE)


def open_shards(folder: Path) -> Layout:
    """Open the set in `folder`; raises `DataError` for shards of different models, or statistics of other shards."""
    files = embedding_files(folder)
    headers = [read_header(path) for path in files]
    first = headers[0]
    for path, header in zip(files, headers, strict=True):
        if (header.model_hash, header.text_dim) != (first.model_hash, first.text_dim):
            raise DataError(
                f"{path} was made by the model {header}, but {files[0].name} by {first}; "
                "keep the sets of two models in two folders."
            )
    path = folder / STATISTICS_FILE
    if not path.exists():
        raise DataError(f"{folder} is not finished: it has no {STATISTICS_FILE}; {AGAIN}.")
    tensors, metadata = _open(path, STATISTICS_KIND)
    if (metadata["model_hash"], metadata["num_shards"]) != (first.model_hash, str(len(files))):
        raise DataError(
            f"{path} is of {metadata['num_shards']} shards of the model {metadata['model_hash'][:12]}, but {folder} "
            f"holds {len(files)} of {first.model_hash[:12]}; {AGAIN}."
        )
    mean, std, embedding = (tensors[name].read().float() for name in ("mean", "std", "empty_embedding"))
    return Layout(
        parts=tuple(
            PartFile(name=path.name, size=header.num_samples, open=partial(open_part, path))
            for path, header in zip(files, headers, strict=True)
        ),
        model_hash=first.model_hash,
        embedding_dim=first.embedding_dim,
        text_dim=first.text_dim,
        text_length=first.text_length,
        statistics=partial(Statistics, mean, std),
        empty=TextRow(embedding, tensors["empty_hidden"].read().float() if first.text_dim else None),
    )


def read_header(path: Path) -> ShardHeader:
    """Read the description of a shard; raises `DataError` for a file that is damaged or of another kind."""
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


def open_part(path: Path) -> EmbeddingPart:
    """Map the rows of one shard; raises `DataError` as `read_header` does."""
    arrays = {name: tensor.read().numpy() for name, tensor in _open(path, KIND).tensors.items()}
    keys, captions = (PackedTexts(arrays[f"{name}_bytes"], arrays[f"{name}_byte_start"]) for name in ("key", "caption"))
    fields: dict[str, Any] = {name: arrays[name] for name in ARRAYS if name in arrays}
    return EmbeddingPart(name=path.name, keys=lambda: keys, all_captions=lambda: captions, **fields)


def read_keys(path: Path) -> list[str]:
    """Read the keys of a shard's samples."""
    return list(open_part(path).keys())


def _open(path: Path, kind: str) -> TensorFile:
    try:
        file = open_tensors(path)
    except CheckpointError as error:
        raise DataError(f"{error} To compute it again, remove it and {AGAIN}.") from None
    stored, version = file.metadata.get("kind", "unknown tensors"), file.metadata.get("version")
    if (stored, version) != (kind, VERSION):
        raise DataError(
            f"{path} holds {stored!r} of version {version}, not {kind!r} of version {VERSION}; give another folder."
        )
    return file


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedShard:
    """The features of one shard of pictures, in memory."""

    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    """The texts of each sample."""
    damaged: Mapping[str, str]
    """Keys of samples that could not be read, and why; their rows of `image_embedding` are undefined."""
    image_embedding: Float16[Tensor, "samples dim"]
    text_embedding: Float16[Tensor, "texts dim"]
    """Embeddings of all captions, sample after sample."""
    text_hidden: Float16[Tensor, "tokens width"] | None
    """States of all captions, from the start token to the end token, one caption after the other."""
    num_tokens: Sequence[int]
    """Tokens of each caption; empty without `text_hidden`."""
    model_hash: str
    text_length: int


def write_embedding_shard(path: Path, shard: EmbeddedShard) -> None:
    """Write a shard atomically; equal content gives equal bytes."""
    valid = torch.tensor([key not in shard.damaged for key in shard.keys], dtype=torch.bool)
    moments = Moments.of(shard.image_embedding[valid])
    tensors = {
        "image_embedding": shard.image_embedding.masked_fill(~valid[:, None], 0.0),
        "is_valid": valid,
        "image_mean": moments.mean,
        "image_deviations": moments.deviations,
        "text_embedding": shard.text_embedding,
        "caption_start": _starts([len(captions) for captions in shard.captions]),
    }
    for name, texts in (("key", shard.keys), ("caption", list(chain.from_iterable(shard.captions)))):
        packed = PackedTexts.of(texts)
        tensors[f"{name}_bytes"] = torch.from_numpy(packed.content)
        tensors[f"{name}_byte_start"] = torch.from_numpy(packed.ends)
    if shard.text_hidden is not None:
        tensors |= {"text_hidden": shard.text_hidden, "token_start": _starts(shard.num_tokens)}
    facts = {"text_length": str(shard.text_length), "damaged": json.dumps(dict(shard.damaged), sort_keys=True)}
    _write(path, tensors, KIND, shard.model_hash, facts)


def write_statistics(folder: Path, empty: TextRow) -> Path:
    """Merge the statistics of all shards in `folder`, in the order of their names, and write them beside the shards."""
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
    _write(folder / STATISTICS_FILE, tensors, STATISTICS_KIND, header.model_hash, counts)
    return folder / STATISTICS_FILE


def _write(path: Path, tensors: Mapping[str, Tensor], kind: str, model_hash: str, facts: Mapping[str, str]) -> None:
    metadata = {"format": "unclip", "kind": kind, "version": VERSION, "model_hash": model_hash, **facts}
    write_tensors(path, {name: LazyTensor.of(tensor) for name, tensor in tensors.items()}, metadata)


def _starts(lengths: Sequence[int]) -> Int64[Tensor, " ends"]:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int64)


def _read_moments(path: Path) -> "Moments":
    tensors, _ = _open(path, KIND)
    count = int(tensors["is_valid"].read().sum())
    return Moments(count, tensors["image_mean"].read(), tensors["image_deviations"].read())


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of vectors, per coordinate, in float64."""

    count: int
    mean: Float64[Tensor, " dim"]
    deviations: Float64[Tensor, " dim"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "count dim"]) -> "Moments":
        """Compute the moments of (count, dim) vectors; all zero for no vectors."""
        exact = vectors.double()
        mean = exact.sum(dim=0) / max(len(exact), 1)
        return cls(len(exact), mean, ((exact - mean) ** 2).sum(dim=0))

    # Chan, Golub, LeVeque 1979, eq. 2.1: sums of squares themselves would cancel if the mean is large.
    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets together."""
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
    """Merge all parts in their order: the same parts give the same bits."""
    return reduce(Moments.merge, parts, Moments.of(torch.empty(0, dim)))
