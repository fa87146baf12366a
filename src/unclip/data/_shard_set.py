"""Reading single samples of WebDataset shards, near or far. Knows where bytes lie; decodes no picture."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Int64, UInt32

from unclip.data._sample import Sample
from unclip.data._shard_store import ShardStore, open_store
from unclip.data._tar_index import PICTURE_SUFFIXES, TarIndex, damaged
from unclip.data._texts import Texts
from unclip.errors import DataError, InputError

__all__ = ["ShardSet"]

BLOCK = 512
CONNECTIONS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSet:
    """The samples of all shards at one place, in the order of the shards' names; opened by `ShardSet.open`.

    Picklable, and safe in forked processes and threads: a file is open while a sample is read and not longer.
    """

    location: str
    shard_names: list[str]
    shard_sizes: list[int]
    """Samples of each shard."""
    keys: Sequence[str]
    content_id: str
    """Another one when a shard was added, removed or written again."""
    store: ShardStore
    shard_bytes: list[int]
    shard_starts: Int64[np.ndarray, " shards"]
    members: UInt32[np.ndarray, "samples 3 2"]

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Index the .tar shards at `location`: a folder, `s3://bucket/folder`, `https://host/{000..099}.tar`, ...

        An index is read from `<shard>.index.json`, or made from the tar's headers and written there. Shards behind a
        URL are fetched whole, when first read, to the folder of UNCLIP_CACHE (`~/.cache/unclip`); those without an
        index file are fetched here. The cache grows without limit, or up to UNCLIP_CACHE_GB and what was read in the
        last minute. Raises `DataError` when there is no shard or no sample, for a damaged tar, and for a key that
        comes twice.
        """
        store = open_store(location)
        indexes = _indexes(store)
        sizes = [len(index.keys) for index in indexes]
        if sum(sizes) == 0:
            raise DataError(f"no sample in the shards of {location}; a sample is a picture with a .txt or .json.")
        keys = Texts.of(key for index in indexes for key in index.keys)
        _require_unique(keys, store.names, sizes)
        stamps = [(name, index.num_bytes, index.mtime_ns) for name, index in zip(store.names, indexes, strict=True)]
        return cls(
            location=str(location),
            shard_names=store.names,
            shard_sizes=sizes,
            keys=keys,
            content_id=hashlib.sha256(json.dumps(stamps).encode()).hexdigest(),
            store=store,
            shard_bytes=[index.num_bytes for index in indexes],
            shard_starts=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
            members=np.concatenate([index.members for index in indexes]),
        )

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        """Location, shard and key of a sample, for people; raises `InputError` for an index outside the set."""
        separator = ": " if self.location.endswith(".tar") else "/"
        return f"{self.location}{separator}{self.shard_names[self.shard(index)]}: {self.keys[index]}"

    def damaged(self, index: int, reason: str) -> DataError:
        """What to raise for a sample that cannot be read."""
        return damaged(self.name(index), reason)

    def sample(self, index: int) -> Sample:
        """Read one sample, and nothing else of its shard.

        Captions are the "captions" of its .json, else its .txt, else the "caption" of its .json (as img2dataset
        writes), else "". Raises `DataError`, naming shard and key, for one without picture or with damaged texts, and
        `InputError` for an index outside the set.
        """
        shard = self.shard(index)
        path = self.store.path(self.shard_names[shard], self.shard_bytes[shard])
        try:
            picture, text, info = _read(path, self.members[index])
            if picture is None:
                raise ValueError(f"it holds no picture (.{', .'.join(PICTURE_SUFFIXES)})")
            facts = json.loads(info or b"{}")
            return Sample(key=self.keys[index], picture=picture, captions=_captions(facts, text), info=facts)
        except (OSError, ValueError) as error:
            raise self.damaged(index, str(error)) from None

    def shard(self, index: int) -> int:
        """The number of the shard that holds a sample; raises `InputError` for an index outside the set."""
        if not 0 <= index < len(self):
            raise InputError(f"there is no sample {index} in {self.location}; use 0 to {len(self) - 1}.")
        return int(np.searchsorted(self.shard_starts, index, side="right")) - 1


def _indexes(store: ShardStore) -> list[TarIndex]:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(store.index, store.names))


def _require_unique(keys: Sequence[str], names: Sequence[str], sizes: Sequence[int]) -> None:
    # Eight bytes a key find out whether there is anything to look for.
    if len(np.unique(np.fromiter(map(hash, keys), np.int64, len(keys)))) == len(keys):
        return
    seen: dict[str, str] = {}
    shards: Iterator[str] = (name for name, size in zip(names, sizes, strict=True) for _ in range(size))
    for key, shard in zip(keys, shards, strict=True):
        if key in seen:
            raise DataError(
                f"the key {key!r} stands for two samples, in {seen[key]} and {shard}; "
                "keys are unique in a set: leave one out, or write the shards again."
            )
        seen[key] = shard


def _read(path: Path, members: UInt32[np.ndarray, "3 2"]) -> tuple[bytes | None, bytes | None, bytes | None]:
    contents: list[bytes | None] = []
    with path.open("rb", buffering=0) as file:
        for block, size in members.tolist():
            file.seek(block * BLOCK)
            content = file.read(size) if block else None
            if content is not None and len(content) != size:
                raise OSError("the archive is cut off")
            contents.append(content)
    picture, text, info = contents
    return picture, text, info


def _captions(info: Any, text: bytes | None) -> tuple[str, ...]:
    if not isinstance(info, dict):
        raise ValueError("its .json is no object")
    captions = info.get("captions")
    if not captions:
        captions = [info.get("caption") or "" if text is None else text.decode()]
    if not (isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)):
        raise ValueError(f"its captions are {captions!r}, not a list of texts")
    return tuple(captions)
