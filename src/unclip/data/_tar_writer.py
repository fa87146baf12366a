"""Writing WebDataset shards whole or not at all. Knows tar files; not what is in the samples."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from unclip.data._source import readable_name, whole_text
from unclip.data._tar_index import is_sample_file
from unclip.errors import InputError

__all__ = ["ShardSample", "hash_order", "require_new", "write_tars"]


class ShardSample(NamedTuple):
    """What a shard holds of one sample."""

    key: str
    """No dot after its last slash: WebDataset takes the suffix to begin at the first one."""
    files: Mapping[str, bytes]
    """By suffix, without the dot."""


def hash_order(keys: Sequence[str]) -> list[int]:
    """Indices of `keys` in the order of their hashes: mixed, and the same on every machine.

    Sorted keys would put neighbours (one folder, one design) into one shard, and readers shuffle near samples best.
    """
    return sorted(
        range(len(keys)), key=lambda index: hashlib.sha256(keys[index].encode(errors="surrogatepass")).digest()
    )


def require_new(out: Path) -> None:
    """Raise `InputError` where `out` exists and is not an empty folder."""
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
        _write_tar(folder / names[-1], chain([first], islice(remaining, samples_per_shard - 1)))
    return names


def _write_tar(path: Path, samples: Iterator[ShardSample]) -> None:
    with open(path, "wb") as file:
        # PAX adds a header where a name is long or not ASCII, and is the plain format otherwise.
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for sample in samples:
                _add_sample(tar, sample)
        file.flush()
        os.fsync(file.fileno())


def _add_sample(tar: tarfile.TarFile, sample: ShardSample) -> None:
    name = sample.key.rpartition("/")[2]
    if "." in name or not is_sample_file(f"{sample.key}.png") or sample.key != whole_text(sample.key):
        raise InputError(
            f"the key {sample.key!r} cannot stand in a shard; use no dot after its last slash and no "
            "leading folder __name__."
        )
    for suffix, content in sorted(sample.files.items()):
        member = tarfile.TarInfo(f"{sample.key}.{suffix}")  # time, owner and mode keep their fixed defaults
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
