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

from unclip.errors import DataError, InputError
from unclip.files import atomic_write

__all__ = ["PICTURE_SUFFIXES", "TarIndex", "damaged", "index_name", "load_index", "local_index"]

PICTURE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
MEMBER = {**dict.fromkeys(PICTURE_SUFFIXES, 0), "txt": 1, "json": 2}
FORMAT = "unclip shard index 1"
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
    members: UInt32[np.ndarray, "samples 3 2"]
    """For picture, text and info: the block of 512 bytes where the content starts (0: no such file), and its bytes."""

    def dumps(self) -> str:
        """The index as JSON, which `load_index` reads."""
        values = {"format": FORMAT, "num_bytes": self.num_bytes, "mtime_ns": self.mtime_ns, "keys": self.keys}
        return json.dumps({**values, "members": self.members.reshape(-1, 6).tolist()}, separators=(",", ":"))


def index_name(shard: str) -> str:
    """The name of a shard's index file, which lies beside it."""
    return f"{shard}.index.json"


def load_index(path: Path) -> TarIndex | None:
    """The index in a file; None where there is none or another program's."""
    try:
        values = json.loads(path.read_bytes())
        members = np.array(values["members"], dtype=np.uint32).reshape(-1, 3, 2)
        if values["format"] != FORMAT or len(members) != len(values["keys"]):
            return None
        return TarIndex(
            num_bytes=values["num_bytes"], mtime_ns=values["mtime_ns"], keys=values["keys"], members=members
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def local_index(shard: Path) -> TarIndex:
    """The index of a tar on disk: its index file when that is of the tar as it is now, else made from the headers.

    A new index is written beside the tar; where that is not possible it is made again by each process. Raises
    `DataError` for a tar that is cut off, damaged, or holds two files of one kind for a sample.
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


def _scan(shard: Path) -> tuple[list[str], UInt32[np.ndarray, "samples 3 2"]]:
    """Keys and places, from the headers alone; neighbours that share a key are one sample."""
    keys: list[str] = []
    rows: list[list[list[int]]] = []
    seen: set[str] = set()
    try:
        for key, suffix, block, size in _files(shard):
            if not keys or key != keys[-1]:
                keys.append(key)
                rows.append([[0, 0], [0, 0], [0, 0]])
                seen.clear()
            if suffix in seen:
                raise tarfile.ReadError(f"it holds two .{suffix}")
            seen.add(suffix)
            # Of two pictures the first in the tar counts.
            if suffix in MEMBER and rows[-1][MEMBER[suffix]] == [0, 0]:
                rows[-1][MEMBER[suffix]] = [block, size]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise damaged(f"{shard}: {keys[-1] if keys else 'the first sample'}", str(error)) from None
    return keys, np.array(rows, dtype=np.uint32).reshape(-1, 3, 2)


def _files(shard: Path) -> Iterator[tuple[str, str, int, int]]:
    """Key, suffix, first block and bytes of each file of a sample."""
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            match = NAME.fullmatch(member.name)
            if member.isreg() and match and not META.match(member.name):
                if member.size >= 2**32:
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes, more than 4 GiB")
                yield match[1], match[2].lower(), member.offset_data // tarfile.BLOCKSIZE, member.size
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, or none, for the end of the archive; the real end is a block of zeros.
    assert tar.fileobj is not None, tar.name
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive is cut off or damaged after this sample")
