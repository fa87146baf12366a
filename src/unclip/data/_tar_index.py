"""Where the samples of a tar lie, and the index files that remember it. Knows tar headers; no pictures and no sets."""

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt32

from unclip.data._source import PICTURE_SUFFIXES, readable_name
from unclip.errors import DataError, InputError
from unclip.files import atomic_write

__all__ = ["FORMAT", "NUM_PARTS", "TarIndex", "damaged", "index_name", "is_sample_file", "load_index", "local_index"]

PART = {**dict.fromkeys(PICTURE_SUFFIXES, 0), "txt": 1, "caption": 1, "json": 2, "cls": 3}
NUM_PARTS = 4
FORMAT = "unclip shard index 2"
OLD_FORMAT = "unclip shard index 1"
"""Of version 0.1.0, without classes; read where the shard itself would have to be fetched."""
# WebDataset's rules: a key is the path up to the first dot of the file's name, and __names__ are not samples.
NAME = re.compile(r"((?:.*/|)[^.]+)\.([^/]*)")
META = re.compile(r"__[^/]*__($|/)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TarIndex:
    """The samples of one tar in its order."""

    num_bytes: int
    """Of the tar."""
    mtime_ns: int
    """When the indexed tar was last written."""
    keys: list[str]
    members: UInt32[np.ndarray, "samples 4 2"]
    """Of picture, text, info, class: the block of 512 bytes where the content starts (0: no such file), its bytes."""

    def dumps(self) -> str:
        """The index as JSON, which `load_index` reads."""
        values = {"format": FORMAT, "num_bytes": self.num_bytes, "mtime_ns": self.mtime_ns, "keys": self.keys}
        return json.dumps(
            {**values, "members": self.members.reshape(-1, 2 * NUM_PARTS).tolist()}, separators=(",", ":")
        )


def is_sample_file(name: str) -> bool:
    """Whether a file of this name in a tar is part of a sample."""
    return NAME.fullmatch(name) is not None and META.match(name) is None


def index_name(shard: str) -> str:
    """The name of a shard's index file, which lies beside it."""
    return f"{shard}.index.json"


def load_index(path: Path, *, old: bool = False) -> TarIndex | None:
    """The index in a file; None where there is none, or another program's or (unless `old`) version's."""
    try:
        values = json.loads(path.read_bytes())
        is_old = old and values["format"] == OLD_FORMAT
        members = np.array(values["members"], dtype=np.uint32).reshape(-1, NUM_PARTS - is_old, 2)
        if is_old:
            members = np.pad(members, ((0, 0), (0, 1), (0, 0)))
        elif values["format"] != FORMAT:
            return None
        if len(members) != len(values["keys"]):
            return None
        return TarIndex(
            num_bytes=values["num_bytes"], mtime_ns=values["mtime_ns"], keys=values["keys"], members=members
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def local_index(shard: Path) -> TarIndex:
    """The index of a tar on disk: its index file when that is of the tar as it is now, else made from the headers.

    A new index is written beside the tar; where that is not possible it is made again by each process. Raises
    `DataError` for a tar that is cut off or damaged.
    """
    sidecar = shard.with_name(index_name(shard.name))
    try:
        found = shard.stat()
    except OSError as error:
        raise damaged(str(shard), error.strerror or str(error)) from None
    index = load_index(sidecar)
    if index is None or (index.num_bytes, index.mtime_ns) != (found.st_size, found.st_mtime_ns):
        keys, members = _scan(shard)
        index = TarIndex(num_bytes=found.st_size, mtime_ns=found.st_mtime_ns, keys=keys, members=members)
        with suppress(InputError):
            atomic_write(sidecar, index.dumps())
    return index


def damaged(name: str, reason: str) -> DataError:
    """What to raise for a shard, or a sample of one, that cannot be read."""
    return DataError(f"{name} cannot be read ({reason}); write or download this shard again.")


def _scan(shard: Path) -> tuple[list[str], UInt32[np.ndarray, "samples 4 2"]]:
    """Keys and places, from the headers alone; files that share a key are one sample, wherever they lie.

    A file of a name that the sample has already begins another one, whose key is numbered.
    """
    keys: list[str] = []
    rows: list[list[list[int]]] = []
    # Of each name in the tar the sample that its next file belongs to, and the suffixes of that sample.
    newest: dict[str, tuple[int, set[str]]] = {}
    taken = set[str]()
    try:
        for name, suffix, block, size in _files(shard):
            if name not in newest or suffix in newest[name][1]:
                key, number = name, 1
                while key in taken:
                    number += 1
                    key = f"{name}-{number}"
                taken.add(key)
                newest[name] = len(keys), set()
                keys.append(key)
                rows.append([[0, 0] for _ in range(NUM_PARTS)])
            place, suffixes = newest[name]
            suffixes.add(suffix)
            # Of two pictures, and of two texts, the first in the tar counts.
            if suffix in PART and rows[place][PART[suffix]] == [0, 0]:
                rows[place][PART[suffix]] = [block, size]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise damaged(f"{shard}: {keys[-1] if keys else 'the first sample'}", str(error)) from None
    return keys, np.array(rows, dtype=np.uint32).reshape(-1, NUM_PARTS, 2)


def _files(shard: Path) -> Iterator[tuple[str, str, int, int]]:
    """Key, suffix, first block and bytes of each file of a sample."""
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            match = NAME.fullmatch(member.name)
            if member.isreg() and match and is_sample_file(member.name):
                if member.size >= 2**32:
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes, more than 4 GiB")
                yield readable_name(match[1]), match[2].lower(), member.offset_data // tarfile.BLOCKSIZE, member.size
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, or none, for the end of the archive; the real end is a block of zeros.
    assert tar.fileobj is not None, tar.name
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive is cut off or damaged after this sample")
