"""Sets of pictures that are compared: folders, tables or shards, and their features in the cache."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from unclip.data import Broken, Source, decode_picture, open_source
from unclip.errors import DataError, InputError, NoCaptionsError
from unclip.evaluate.chunks import Chunks
from unclip.evaluate.features import RowsByKind, picture_rows
from unclip.evaluate.options import EvaluateOptions
from unclip.images import crop_square
from unclip.metrics import FeatureNetwork
from unclip.pipelines.options import Progress

MIN_PICTURES = 2
"""Fewer have no covariance."""
PICTURES_PER_CHUNK = 256
# Of so many pictures a few damaged ones change no figure; more are a broken copy.
ALLOWED_DAMAGE = 0.01
NUM_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedPictures:
    """Pictures in a fixed order, identified by their content, which is read when it is first needed."""

    name: str
    source: Source
    progress: Callable[[int, int], None]
    """Called with (done, total) while the pictures are read."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def content_id(self) -> str:
        """SHA-256, in hexadecimal, of the bytes of all pictures in order: the same wherever they lie."""
        return self._content[0]

    @property
    def captions(self) -> tuple[str, ...]:
        """The first caption of each picture; "" without one."""
        return tuple(text or "" for text in self._content[1])

    @property
    def uncaptioned(self) -> list[str]:
        """Names of the pictures that can be read and have no caption."""
        return [name for name, text in zip(self.source.names, self._content[1], strict=True) if text == ""]

    @cached_property
    def _content(self) -> tuple[str, tuple[str | None, ...]]:
        """The hash of all pictures, and their captions: "" without one, None for a picture that cannot be read."""
        digest, captions = hashlib.sha256(), list[str | None]()
        for index, sample in enumerate(self.source):
            picture = b"" if isinstance(sample, Broken) else sample.picture
            digest.update(hashlib.sha256(picture).digest())
            captions.append(None if isinstance(sample, Broken) else sample.captions[0].strip() and sample.captions[0])
            self.progress(index + 1, len(self.source))
        return digest.hexdigest(), tuple(captions)

    def read(self, index: int) -> Image.Image:
        """Read a picture as RGB; raises `DataError` with the reason where it is damaged."""
        sample = self.source.item(index)
        if isinstance(sample, Broken):
            raise DataError(sample.reason)
        return decode_picture(sample.picture)


def open_compared(
    location: str | Path, progress: Callable[[int, int], None], *, with_captions: bool = False
) -> ComparedPictures:
    """Open whatever `unclip.data.open_source` reads, without reading a picture.

    Captions are optional and searched for only on request; captions that are damaged, or fit several readings, are an
    error. Raises as `open_source` does, and `InputError` for fewer than two pictures.
    """
    try:
        source = open_source(location) if with_captions else open_source(location, "none")
    except NoCaptionsError:
        source = open_source(location, "none")
    except DataError as error:
        if not with_captions:
            raise
        raise DataError(
            f"{error} Or do without the captions of {location}: give --prompts with a text for each picture, or "
            "--metrics that need none."
        ) from None
    if len(source) < MIN_PICTURES:
        raise InputError(f"{location} holds {len(source)} picture; a comparison needs at least {MIN_PICTURES}.")
    return ComparedPictures(name=str(location), source=source, progress=progress)


def as_uint8(images: Sequence[Image.Image]) -> UInt8[Tensor, "_batch 3 _height _width"]:
    """Convert PIL pictures of one size to a batch of 8-bit pixels."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedFeatures:
    """The files with the features of compared pictures."""

    pictures: ComparedPictures
    chunks: Mapping[str, Chunks]
    """By kind of features."""

    @property
    def is_complete(self) -> bool:
        """Whether all pictures have features, the shares of other processes included."""
        return not any(chunks.missing() for chunks in self.chunks.values())

    @cached_property
    def damaged(self) -> dict[str, str]:
        """The pictures that could not be read, and why."""
        return next(iter(self.chunks.values())).damaged()

    @property
    def num_rows(self) -> int:
        """Number of pictures that have features."""
        return len(self.pictures) - len(self.damaged)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of pictures that were left out."""
        if not self.damaged:
            return ()
        shown = _list(self.damaged)
        return (f"{len(self.damaged)} pictures of {self.pictures.name} cannot be read and are left out{shown}.",)

    def rows(self, kind: str) -> Iterator[Tensor]:
        """Yield the features of one kind, a chunk at a time; raises `DataError` for too many damaged pictures."""
        _check_damage(self.pictures, self.damaged)
        return self.chunks[kind].each(kind)

    def of_readable(self, values: Sequence[str]) -> list[str]:
        """Select from a value for each picture those of pictures that have features."""
        names = self.pictures.source.names
        return [value for value, name in zip(values, names, strict=True) if name not in self.damaged]


def compute_features(
    pictures: ComparedPictures,
    networks: Sequence[FeatureNetwork],
    options: EvaluateOptions,
    size: int,
    progress: Progress,
) -> ComparedFeatures:
    """Compute the missing features of this process's share; the cache keeps them by content, network and size.

    Raises `DataError` for more than a few damaged pictures, with the reasons, and for features that are not finite.
    """
    stores: dict[str, Chunks] = {}
    for network in networks:
        key = hashlib.sha256(f"{pictures.content_id} {network.fingerprint} {size}".encode()).hexdigest()
        folder = options.cache_folder / "features" / key[:32]
        stores[network.name] = Chunks(folder=folder, num_items=len(pictures), length=PICTURES_PER_CHUNK)
    first, step = options.node
    missing = {
        name: {number for number in chunks.missing() if number % step == first} for name, chunks in stores.items()
    }
    numbers, damaged = sorted(set().union(*missing.values())), dict[str, str]()
    items = next(iter(stores.values())).items
    done, total = 0, sum(len(items(number)) for number in numbers)
    for number in numbers:
        lacking = [network for network in networks if number in missing[network.name]]
        rows, reasons = _chunk_rows(pictures, items(number), lacking, size, options.feature_batch)
        damaged |= reasons
        _check_damage(pictures, damaged)
        if len(reasons) == len(items(number)):
            shown = _list(reasons)
            raise DataError(f"{pictures.name} holds {len(reasons)} damaged pictures in a row{shown}; repair them.")
        for network in lacking:
            kinds = {kind: rows[kind] for kind in network.kinds}
            stores[network.name].write(number, kinds, damaged=reasons)
        done += len(items(number))
        progress("features", done, total)
    chunks = {kind: stores[network.name] for network in networks for kind in network.kinds}
    return ComparedFeatures(pictures=pictures, chunks=chunks)


def _chunk_rows(
    pictures: ComparedPictures, items: range, networks: Sequence[FeatureNetwork], size: int, batch_size: int
) -> tuple[RowsByKind, dict[str, str]]:
    """Compute the rows of a chunk, a batch of pictures in memory at a time; return also why some cannot be read."""
    parts, damaged = list[RowsByKind](), dict[str, str]()
    for first in range(0, len(items), batch_size):
        names, squares = list[str](), list[Image.Image]()
        for index in items[first : first + batch_size]:
            try:
                squares.append(crop_square(pictures.read(index), size))
                names.append(pictures.source.names[index])
            except DataError as error:
                damaged[pictures.source.names[index]] = str(error)
        if squares:
            parts.append(picture_rows(networks, as_uint8(squares), names, batch_size))
    kinds = parts[0] if parts else {}
    return {kind: torch.cat([part[kind] for part in parts]) for kind in kinds}, damaged


def _check_damage(pictures: ComparedPictures, damaged: Mapping[str, str]) -> None:
    if len(damaged) > ALLOWED_DAMAGE * len(pictures):
        raise DataError(
            f"{pictures.name} holds {len(damaged)} of {len(pictures)} pictures that cannot be read{_list(damaged)}; "
            "repair or remove them."
        )


def _list(damaged: Mapping[str, str]) -> str:
    shown = ", ".join(f"{name}: {reason}" for name, reason in list(damaged.items())[:NUM_SHOWN])
    more = "" if len(damaged) <= NUM_SHOWN else f", and {len(damaged) - NUM_SHOWN} more"
    return f" ({shown}{more})"
