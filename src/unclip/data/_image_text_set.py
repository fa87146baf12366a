"""Reading WebDataset shards into memory. Knows tar and picture files; not emoji, batches or models."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from unclip.errors import DataError, InputError
from unclip.files import atomic_path

__all__ = ["ImageTextSet", "load_shards"]

PICTURE_SUFFIXES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTextSet:
    """Pictures with their captions, in the order of the shards."""

    images: UInt8[np.ndarray, "items height width 3"]
    """RGB, mapped from a cache file: reading an item reads it from disk or the page cache."""
    keys: list[str]
    captions: list[list[str]]
    """At least one caption for each item, the plain one first."""
    info: list[dict[str, Any]]
    """The sample's .json, whole; empty when the shard holds none."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    shard: Path
    key: str
    picture: bytes
    captions: list[str]
    info: dict[str, Any]


def load_shards(folder: Path | str, image_size: int) -> ImageTextSet:
    """All samples of the .tar shards in `folder`, their pictures cut to the centre square and scaled to `image_size`.

    Scaling is Pillow's antialiased bicubic, the kernel of `unclip.images.resize`. The pixels are decoded once into
    `.cache-<image_size>-<hash of the content>.npy` in the folder. Raises `DataError`, naming shard and key, for a
    missing, damaged or incomplete sample and for a picture smaller than `image_size`.
    """
    folder = Path(folder)
    if image_size < 1:
        raise InputError(f"image_size={image_size} is not a size; use 1 or more pixels.")
    digest = hashlib.sha256()
    keys, captions, info = [], [], []
    for sample in _samples(folder):
        digest.update(f"{sample.key} {len(sample.picture)} ".encode() + sample.picture)
        keys.append(sample.key)
        captions.append(sample.captions)
        info.append(sample.info)
    cache = folder / f".cache-{image_size}-{digest.hexdigest()[:16]}.npy"
    if not cache.exists():
        _write_cache(cache, folder, image_size, len(keys))
    return ImageTextSet(images=np.load(cache, mmap_mode="r"), keys=keys, captions=captions, info=info)


def _write_cache(cache: Path, folder: Path, image_size: int, num_items: int) -> None:
    shape = (num_items, image_size, image_size, 3)
    with atomic_path(cache) as temporary:
        images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for index, sample in enumerate(_samples(folder)):
            images[index] = _decode(sample, image_size)
        images.flush()


def _decode(sample: _Sample, image_size: int) -> UInt8[np.ndarray, "height width 3"]:
    try:
        with Image.open(io.BytesIO(sample.picture)) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise _damaged(sample.shard, sample.key, str(error)) from None
    side = min(image.size)
    if side < image_size:
        raise DataError(
            f"{sample.shard}: {sample.key} is {image.width} x {image.height} pixels, smaller than "
            f"image_size={image_size}; use at most {side}, or write larger shards."
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((image_size, image_size), Image.Resampling.BICUBIC))


def _samples(folder: Path) -> Iterator[_Sample]:
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataError(f"no .tar shard in {folder}; write some with `unclip data emoji {folder} --image-size 64`.")
    for shard in shards:
        for key, files in _groups(shard):
            yield _sample(shard, key, files)


def _groups(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files of each sample by suffix; WebDataset's rule: neighbours that share the name up to its first dot."""
    key = ""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if files and folder + slash + stem != key:
                    yield key, files
                    files = {}
                key = folder + slash + stem
                files[suffix.lower()] = _content(tar, member)
            _check_end(tar)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(shard, key or "the first sample", str(error)) from None
    if files:
        yield key, files


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, or none, for the end of the archive; the real end is a block of zeros.
    assert tar.fileobj is not None, tar.name
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive is cut off or damaged after this sample")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _sample(shard: Path, key: str, files: dict[str, bytes]) -> _Sample:
    picture = next((files[suffix] for suffix in PICTURE_SUFFIXES if suffix in files), None)
    if picture is None or "txt" not in files:
        raise _damaged(shard, key, f"it holds {sorted(files)}, but a sample is a picture and a .txt")
    try:
        info = json.loads(files.get("json", b"{}"))
        captions = info.get("captions") or [files["txt"].decode()]
    except (ValueError, AttributeError) as error:
        raise _damaged(shard, key, str(error)) from None
    if not (isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)):
        raise _damaged(shard, key, f"its captions are {captions!r}, not a list of texts")
    return _Sample(shard=shard, key=key, picture=picture, captions=captions, info=info)


def _damaged(shard: Path, key: str, reason: str) -> DataError:
    return DataError(f"{shard}: {key} cannot be read ({reason}); write or download this shard again.")
