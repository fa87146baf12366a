"""Index and write tar shards."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from unclip.data.sources.base import PICTURE_SUFFIXES, free_key, readable_name, whole_text
from unclip.errors import DataError, InputError
from unclip.files import atomic_write

PART = {**dict.fromkeys(PICTURE_SUFFIXES, 0), "txt": 1, "caption": 1, "json": 2, "cls": 3}
NUM_PARTS = 4
INDEX_SUFFIX = ".index.json"
"""Of a shard's index file, after the whole name of the shard."""
FORMAT = "unclip shard index 2"
OLD_FORMAT = "unclip shard index 1"
"""The format of version 0.1.0, without classes; read if the shard itself would have to be fetched."""
# WebDataset's rules: a key is the path up to the first dot of the file's name, and __names__ are not samples.
NAME = re.compile(r"((?:.*/|)[^.]+)\.([^/]*)")
META = re.compile(r"__[^/]*__($|/)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TarIndex:
    """The samples of one tar in its order."""

    num_bytes: int
    """Length of the tar."""
    mtime_ns: int
    """When the indexed tar was last written."""
    keys: list[str]
    members: UInt32[np.ndarray, "samples 4 2"]
    """Of picture, text, info, class: the block of 512 bytes where the content starts (0: no such file), its bytes."""


def load_index(path: Path, *, old: bool = False) -> TarIndex | None:
    """Read the index in a file; None if there is none, or one of another program or (unless `old`) version."""
    try:
        values = json.loads(path.read_bytes())
        is_old = old and values["format"] == OLD_FORMAT
        members = np.array(values["members"], dtype=np.uint32).reshape(-1, NUM_PARTS - is_old, 2)
        members = np.pad(members, ((0, 0), (0, int(is_old)), (0, 0)))
        if len(members) == len(values["keys"]) and (is_old or values["format"] == FORMAT):
            fields = {name: values[name] for name in ("num_bytes", "mtime_ns", "keys")}
            return TarIndex(**fields, members=members)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    return None


def local_index(shard: Path) -> TarIndex:
    """Read the index of a tar on disk from its index file, or make it from the headers if that file is out of date.

    A new index is written beside the tar; if that is impossible each process makes it again. Raises `DataError` for a
    tar that is cut off or damaged.
    """
    sidecar = shard.with_name(shard.name + INDEX_SUFFIX)
    try:
        status = shard.stat()
    except OSError as error:
        raise damaged(str(shard), error.strerror or str(error)) from None
    index, stamp = load_index(sidecar), {"num_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    if index is None or (index.num_bytes, index.mtime_ns) != (status.st_size, status.st_mtime_ns):
        keys, members = _scan(shard)
        index = TarIndex(**stamp, keys=keys, members=members)
        values = {"format": FORMAT, **stamp, "keys": keys, "members": members.reshape(-1, 2 * NUM_PARTS).tolist()}
        with suppress(InputError):
            atomic_write(sidecar, json.dumps(values, separators=(",", ":")))
    return index


def damaged(name: str, reason: str) -> DataError:
    """Make the error for a shard, or a sample of one, that cannot be read."""
    return DataError(f"{name} cannot be read ({reason}); write or download this shard again.")


def _scan(shard: Path) -> tuple[list[str], UInt32[np.ndarray, "samples 4 2"]]:
    """Read keys and positions from the headers alone; files that share a key are one sample, wherever they lie.

    A file name that repeats begins another sample, whose key is numbered.
    """
    keys: list[str] = []
    rows: list[list[list[int]]] = []
    # For each name in the tar the sample that its next file belongs to, and the suffixes of that sample.
    newest: dict[str, tuple[int, set[str]]] = {}
    taken = set[str]()
    try:
        for name, suffix, block, size in _files(shard):
            if name not in newest or suffix in newest[name][1]:
                newest[name] = len(keys), set()
                keys.append(free_key(name, taken))
                rows.append([[0, 0] for _ in range(NUM_PARTS)])
            sample, suffixes = newest[name]
            suffixes.add(suffix)
            # Of two pictures, and of two texts, the first in the tar counts.
            if suffix in PART and rows[sample][PART[suffix]] == [0, 0]:
                rows[sample][PART[suffix]] = [block, size]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise damaged(f"{shard}: {keys[-1] if keys else 'the first sample'}", str(error)) from None
    return keys, np.array(rows, dtype=np.uint32).reshape(-1, NUM_PARTS, 2)


def _files(shard: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yield key, suffix, first block and bytes of each file of a sample."""
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            match = NAME.fullmatch(member.name)
            if member.isreg() and match and is_sample_file(member.name):
                if member.size >= 2**32:
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes, more than 4 GiB")
                yield readable_name(match[1]), match[2].lower(), member.offset_data // tarfile.BLOCKSIZE, member.size
        # tarfile takes a damaged header, or none, for the end of the archive; the real end is a block of zeros.
        assert tar.fileobj is not None, tar.name
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the archive is cut off or damaged after this sample")


def is_sample_file(name: str) -> bool:
    """Return whether a file of this name in a tar is part of a sample."""
    return NAME.fullmatch(name) is not None and META.match(name) is None


class ShardSample(NamedTuple):
    """The files of one sample in a shard."""

    key: str
    """No dot after its last slash: WebDataset takes the suffix to begin at the first one."""
    files: Mapping[str, bytes]
    """By suffix, without the dot."""


def hash_order(keys: Sequence[str]) -> list[int]:
    """Order the indices of `keys` by their hashes: mixed, and the same on every machine.

    Sorted keys would put neighbours (one folder, one design) into one shard, and readers shuffle near samples best.
    """
    hashes = [hashlib.sha256(key.encode(errors="surrogatepass")).digest() for key in keys]
    return sorted(range(len(keys)), key=hashes.__getitem__)


def require_new(out: Path) -> None:
    """Raise `InputError` if `out` exists and is not an empty folder."""
    if str(out) != readable_name(str(out)):
        raise InputError(f"{readable_name(str(out))} is not UTF-8 as it was given; name a folder in UTF-8.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists already; name a new or empty folder, or remove this one.")


def write_tars(folder: Path, prefix: str, samples: Iterable[ShardSample], samples_per_shard: int) -> list[str]:
    """Write `<prefix>-000000.tar` and on into `folder`, flushed to disk; returns their names.

    The same samples give the same bytes: files are sorted by suffix and carry no time and no owner.
    """
    remaining, names = iter(samples), list[str]()
    for first in remaining:
        names.append(f"{prefix}-{len(names):06d}.tar")
        with open(folder / names[-1], "wb") as file:
            # PAX adds a header if a name is long or not ASCII, and is the plain format otherwise.
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for sample in chain([first], islice(remaining, samples_per_shard - 1)):
                    name = sample.key.rpartition("/")[2]
                    if "." in name or not is_sample_file(f"{sample.key}.png") or sample.key != whole_text(sample.key):
                        raise InputError(
                            f"the key {sample.key!r} is not valid in a shard; use no dot after its last slash and no "
                            "leading folder __name__."
                        )
                    for suffix, content in sorted(sample.files.items()):
                        member = tarfile.TarInfo(f"{sample.key}.{suffix}")  # time, owner, mode: fixed defaults
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
            file.flush()
            os.fsync(file.fileno())
    return names
