"""Read single samples of WebDataset shards, on disk or remote, without decoding their pictures."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Int64, UInt32

from unclip.data.sources.base import PICTURE_SUFFIXES, Sample, field_captions, free_key, text_of, whole_text
from unclip.data.store import ShardStore, is_tar, open_store, tar_stem
from unclip.data.tars import FORMAT, damaged
from unclip.data.texts import PackedTexts
from unclip.errors import DataError, InputError

BLOCK = 512
CONNECTIONS = 16
MAX_COUNTED = 100_000
"""Samples up to which captions are counted: their texts are read, which takes some seconds."""
NUM_PROBED = 1000
"""Samples that are read of a larger set, or of the first shard of a remote one."""
TEXT, INFO, CLASS = 1, 2, 3
"""Rows of a sample's members: the first of its texts, its .json, and its class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSet:
    """The samples of all shards at one location, in the order of the shards' names; opened by `ShardSet.open`.

    Picklable, and safe in forked processes and threads: a file is open while a sample is read and not longer.
    """

    location: str
    shard_names: list[str]
    shard_sizes: list[int]
    """Samples of each shard."""
    keys: Sequence[str]
    content_id: str
    """Changes when a shard is added, removed or written again."""
    store: ShardStore
    shard_bytes: list[int]
    shard_starts: Int64[np.ndarray, " shards"]
    members: UInt32[np.ndarray, "samples 4 2"]
    caption_column: str | None = None

    @classmethod
    def open(cls, location: str | Path, *, caption_column: str | None = None) -> Self:
        """Index the .tar shards at `location`: a folder, `s3://bucket/folder`, `https://host/{000..099}.tar`, ...

        In a folder the tars in it are read, or else those in the folders below; .tar.gz and .tgz are unpacked into the
        cache. `caption_column` names the field of each .json, or "cls", that holds the captions, if it is unusual.
        An index is read from `<shard>.index.json`, or made from the tar's headers and written there. Remote shards
        are fetched whole, when first read, to the folder of UNCLIP_CACHE (`~/.cache/unclip`); those without an index
        file are fetched here. The cache grows without limit, or up to UNCLIP_CACHE_GB and the shards read in the last
        minute. A key that repeats in another shard gets that shard's name. Raises `DataError` if there is no shard or
        no sample, and for a damaged tar.
        """
        store = open_store(location)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            indexes = list(pool.map(store.index, store.names))
        sizes = [len(index.keys) for index in indexes]
        if sum(sizes) == 0:
            raise DataError(f"no sample in the shards of {location}; a sample is a picture with a .txt or .json.")
        keys = _unique(PackedTexts.of(key for index in indexes for key in index.keys), store.names, sizes)
        # Files made from a set depend on the rules by which it was read, too.
        stamps: list[object] = [FORMAT]
        stamps += [(name, index.num_bytes, index.mtime_ns) for name, index in zip(store.names, indexes, strict=True)]
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
            caption_column=caption_column,
        )

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        """Return location, shard and key of a sample; raises `InputError` for an index outside the set."""
        separator = ": " if is_tar(self.location) else "/"
        return f"{self.location}{separator}{self.shard_names[self.shard(index)]}: {self.keys[index]}"

    def sample(self, index: int) -> Sample:
        """Read one sample, and nothing else of its shard.

        Captions are those of the field `caption_column` if it is named; else the "captions" of its .json, its .txt
        or .caption, a text in a usual field of its .json ("caption" as img2dataset writes, "text", "prompt", ...), a
        name in its .cls, or "". Raises `DataError`, naming shard and key, for one without picture or with
        damaged texts, and `InputError` for an index outside the set.
        """
        shard = self.shard(index)
        path = self.store.path(self.shard_names[shard], self.shard_bytes[shard])
        try:
            picture, *texts = _read(path, self.members[index])
            if picture is None:
                raise DataError(f"it holds no picture (.{', .'.join(PICTURE_SUFFIXES)})")
            info, captions = _texts(texts, self.caption_column)
            return Sample(key=self.keys[index], picture=picture, captions=captions or ("",), info=info)
        except (OSError, ValueError, RecursionError, DataError) as error:
            raise damaged(self.name(index), str(error)) from None

    def info(self, index: int) -> dict[str, Any]:
        """Read the fields of one sample's .json, and nothing else; none without a .json. Raises as `sample` does."""
        shard = self.shard(index)
        try:
            path = self.store.path(self.shard_names[shard], self.shard_bytes[shard])
            return _fields(*_read(path, self.members[index, INFO : INFO + 1]))
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(self.name(index), str(error)) from None

    def count_uncaptioned(self) -> int | None:
        """Count the readable samples without a caption; None for remote shards and for very many samples."""
        return None if self.store.is_remote or len(self) > MAX_COUNTED else self.probe_uncaptioned()[0]

    def probe_uncaptioned(self) -> tuple[int, int]:
        """Count the samples without a caption among those read, and return how many were read.

        All are read if that is quick, else a thousand: spread evenly, or of the first shard of a remote set.
        """
        indices = np.flatnonzero(self.members[:, 0, 0] > 0)
        if self.store.is_remote:
            indices = indices[indices < next(size for size in self.shard_sizes if size)][:NUM_PROBED]
        elif len(self) > MAX_COUNTED:
            indices = indices[:: -(-len(indices) // NUM_PROBED)]
        return sum(self._is_uncaptioned(int(index)) for index in indices), len(indices)

    def fields(self) -> list[str]:
        """List what may be named as `caption_column`: the fields with texts of the first readable sample."""
        for index in range(min(len(self), 100)):
            try:
                info = self.sample(index).info
            except DataError:
                continue
            names = [name for name, value in info.items() if isinstance(value, str)]
            return ["cls", *names] if self.members[index, CLASS, 0] else names
        return []

    def _is_uncaptioned(self, index: int) -> bool:
        path = self.store.path(self.shard_names[self.shard(index)], self.shard_bytes[self.shard(index)])
        try:
            return not any(_texts(_read(path, self.members[index, TEXT:]), self.caption_column)[1])
        except (OSError, ValueError, RecursionError, DataError):
            return False

    def shard(self, index: int) -> int:
        """Return the number of the shard that holds a sample; raises `InputError` for an index outside the set."""
        if not 0 <= index < len(self):
            raise InputError(f"there is no sample {index} in {self.location}; use 0 to {len(self) - 1}.")
        return int(np.searchsorted(self.shard_starts, index, side="right")) - 1


def _unique(keys: PackedTexts, names: Sequence[str], sizes: Sequence[int]) -> PackedTexts:
    """Return the same keys, repeated ones prefixed by their shard's name."""
    # Eight bytes a key tell whether any key repeats.
    if len(np.unique(np.fromiter(map(hash, keys), np.int64, len(keys)))) == len(keys):
        return keys
    taken, shards = set[str](), chain.from_iterable(map(repeat, names, sizes))
    return PackedTexts.of(
        free_key(f"{tar_stem(shard)}/{key}" if key in taken else key, taken)
        for key, shard in zip(keys, shards, strict=True)
    )


def _read(path: Path, members: UInt32[np.ndarray, "parts 2"]) -> list[bytes | None]:
    contents: list[bytes | None] = []
    with path.open("rb", buffering=0) as file:
        for block, size in members.tolist():
            file.seek(block * BLOCK)
            content = file.read(size) if block else None
            if content is not None and len(content) != size:
                raise OSError("the archive is cut off")
            contents.append(content)
    return contents


def _fields(content: bytes | None) -> dict[str, Any]:
    values = {} if content is None else json.loads(content)
    return values if isinstance(values, dict) else {}


def _texts(contents: Sequence[bytes | None], column: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a sample's .json, and its captions in the order of `ShardSet.sample`."""
    text, fields, label = contents
    info = _fields(fields)
    if column is not None:
        captions = field_captions(info, column)
        return info, captions or (field_captions({column: text_of(label or b"")}, column) if column == "cls" else ())
    # As `prepare` writes them: they decide even if empty. Other programs use the field for other things.
    prepared = info.get("captions")
    if isinstance(prepared, list) and prepared and all(isinstance(caption, str) for caption in prepared):
        return info, tuple(map(whole_text, prepared))
    caption = text_of(text or b"")
    if caption.strip():
        return info, (caption,)
    name = text_of(label or b"").strip()
    return info, field_captions(info, None) or (() if name.isdecimal() or not name else (name.replace("_", " "),))
