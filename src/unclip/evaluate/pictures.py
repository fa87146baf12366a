"""Features of pictures in a folder or reference set."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image

from unclip.errors import DataError
from unclip.evaluate.features import Chunk, Chunks, Networks, Rows, feature_rows, share
from unclip.evaluate.figures import FeatureSet
from unclip.evaluate.options import EvaluateOptions
from unclip.evaluate.prompts import PictureSet, as_uint8, read_square
from unclip.metrics import FeatureNetwork
from unclip.pipelines.options import Progress

PICTURES_PER_CHUNK = 256


# Of so many pictures a few damaged ones change no figure; more are a broken copy.
ALLOWED_DAMAGE = 0.01


SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class SetFeatures:
    """Where the features of a set are."""

    pictures: PictureSet
    chunks: Mapping[str, Chunks]
    """By the name of the network."""
    givers: Mapping[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether features of all pictures are there, those of other processes too."""
        return not any(chunks.missing() for chunks in self.chunks.values())

    @cached_property
    def damaged(self) -> dict[str, str]:
        """The pictures that could not be read, and why."""
        return next(iter(self.chunks.values())).damaged()

    @property
    def num_rows(self) -> int:
        """Pictures that have features."""
        return len(self.pictures) - len(self.damaged)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of pictures that were left out."""
        if not self.damaged:
            return ()
        count, name = len(self.damaged), self.pictures.name
        return (f"{count} pictures of {name} cannot be read and are left out{_list(self.damaged)}.",)

    def joined(self) -> FeatureSet:
        """The features of all pictures; raises `DataError` for more damaged ones than a few in a hundred."""
        _check_damage(self.pictures, self.damaged)
        return FeatureSet({kind: self.chunks[name] for kind, name in self.givers.items()})

    def kept(self, values: Sequence[str]) -> list[str]:
        """Of a value for each picture those of the pictures that have features."""
        names = self.pictures.source.names
        return [value for value, name in zip(values, names, strict=True) if name not in self.damaged]


def compute_features(
    pictures: PictureSet, networks: Networks, options: EvaluateOptions, size: int, progress: Progress
) -> SetFeatures:
    """Compute what is missing of this process's share.

    Raises `DataError` for more damaged pictures than a few, each named with its reason, and for features that are not
    finite.
    """
    folder = options.cache_folder / "features"
    stores = {network.name: _chunks(folder, pictures, network, size) for network in networks.networks}
    missing = {name: set(share(chunks.missing(), options.node)) for name, chunks in stores.items()}
    todo, damaged = sorted(set().union(*missing.values())), dict[str, str]()
    items = next(iter(stores.values())).items
    done, total = 0, sum(len(items(number)) for number in todo)
    for number in todo:
        wanted = [network for network in networks.networks if number in missing[network.name]]
        rows, found = _chunk_rows(pictures, items(number), wanted, size, options.feature_batch)
        damaged |= found
        _check_damage(pictures, damaged)
        if len(found) == len(items(number)):
            raise DataError(f"{pictures.name} holds {len(found)} damaged pictures in a row{_list(found)}; repair them.")
        for name, kinds in rows.items():
            stores[name].write(number, Chunk(rows=kinds, damaged=found))
        done += len(items(number))
        progress("features", done, total)
    return SetFeatures(pictures=pictures, chunks=stores, givers=networks.givers)


def _chunks(folder: Path, pictures: PictureSet, network: FeatureNetwork, size: int) -> Chunks:
    """Where the features of a set are kept: by its content, the network's and the size."""
    key = hashlib.sha256(f"{pictures.content_id} {network.fingerprint} {size}".encode()).hexdigest()
    return Chunks(folder=folder / key[:32], num_items=len(pictures), length=PICTURES_PER_CHUNK)


def _check_damage(pictures: PictureSet, damaged: dict[str, str]) -> None:
    """Raise `DataError`, naming some, for more damaged pictures than a few in a hundred."""
    if len(damaged) > ALLOWED_DAMAGE * len(pictures):
        raise DataError(
            f"{pictures.name} holds {len(damaged)} of {len(pictures)} pictures that cannot be read{_list(damaged)}; "
            "repair or remove them."
        )


def _chunk_rows(
    pictures: PictureSet, items: Sequence[int], networks: Sequence[FeatureNetwork], size: int, batch_size: int
) -> tuple[dict[str, Rows], dict[str, str]]:
    """Rows of a chunk by network, a batch of pictures in memory at a time; and why some could not be read."""
    parts: dict[str, list[Rows]] = {network.name: [] for network in networks}
    damaged = dict[str, str]()
    for first in range(0, len(items), batch_size):
        names, squares, found = _read(pictures, items[first : first + batch_size], size)
        damaged |= found
        if squares:
            for network in networks:
                parts[network.name].append(feature_rows(network, as_uint8(squares), names, batch_size))
    joined: dict[str, Rows] = {
        name: {kind: torch.cat([rows[kind] for rows in several]) for kind in several[0]}
        for name, several in parts.items()
        if several
    }
    return joined, damaged


def _read(pictures: PictureSet, items: Sequence[int], size: int) -> tuple[list[str], list[Image.Image], dict[str, str]]:
    """Names and squares of the pictures that can be read, and why others cannot."""
    names, squares, damaged = list[str](), list[Image.Image](), dict[str, str]()
    for index in items:
        name = pictures.source.names[index]
        try:
            squares.append(read_square(pictures, index, size))
            names.append(name)
        except DataError as error:
            damaged[name] = str(error)
    return names, squares, damaged


def _list(damaged: dict[str, str]) -> str:
    shown = ", ".join(f"{name}: {reason}" for name, reason in list(damaged.items())[:SHOWN])
    more = "" if len(damaged) <= SHOWN else f", and {len(damaged) - SHOWN} more"
    return f" ({shown}{more})"
