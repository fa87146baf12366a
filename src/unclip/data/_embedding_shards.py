"""Our shards of CLIP features: one safetensors file beside each shard of pictures. Knows the layout; not CLIP.

Rows stand in the order of the picture shard. Texts are packed: all bytes in a row, and where each text starts.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float16, Float32, Int64
from torch import Tensor

from unclip.checkpoint import LazyTensor, TensorFile, open_tensors, write_tensors
from unclip.data._embedding_layout import EmbeddingPart, Layout, PartFile, Statistics, TextRow
from unclip.data._moments import Moments, merge_all
from unclip.data._texts import Texts
from unclip.errors import CheckpointError, DataError

__all__ = [
    "STATISTICS_FILE",
    "EmbeddedShard",
    "ShardHeader",
    "embedding_files",
    "open_own",
    "read_header",
    "read_keys",
    "write_embedding_shard",
    "write_statistics",
]

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
