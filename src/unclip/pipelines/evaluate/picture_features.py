"""Features of sets of pictures, computed once and kept by content. Knows sets, networks and chunks; no metric."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from unclip.errors import DataError
from unclip.evaluation import FeatureNetwork
from unclip.pipelines.evaluate.chunks import Chunk, Chunks, Node, share
from unclip.pipelines.evaluate.pictures import PictureSet, as_uint8, read_square
from unclip.pipelines.evaluate.rows import feature_rows
from unclip.pipelines.options import Progress

__all__ = ["compute_features", "damage_note", "set_chunks"]

PICTURES_PER_CHUNK = 256
# Of so many pictures a few damaged ones change no figure; more are a broken copy.
ALLOWED_DAMAGE = 0.01
SHOWN = 5


def set_chunks(cache: Path, pictures: PictureSet, network: FeatureNetwork, size: int) -> Chunks:
    """Where the features of a set are kept: by its content, the network's and the size."""
    key = f"{pictures.content_id} {network.fingerprint} {size}"
    folder = cache / "features" / hashlib.sha256(key.encode()).hexdigest()[:32]
    return Chunks(folder=folder, num_items=len(pictures), length=PICTURES_PER_CHUNK)


def compute_features(
    pictures: PictureSet,
    networks: Sequence[FeatureNetwork],
    cache: Path,
    *,
    size: int,
    batch_size: int,
    node: Node,
    progress: Progress,
) -> dict[str, Chunks]:
    """Compute what is missing of this process's share; the chunks of each network by its name.

    Raises `DataError` for more damaged pictures than a few, each named with its reason, and for features that are not
    finite.
    """
    stores = {network.name: set_chunks(cache, pictures, network, size) for network in networks}
    missing = {name: set(share(chunks.missing(), node)) for name, chunks in stores.items()}
    todo, damaged = sorted(set().union(*missing.values())), dict[str, str]()
    items = next(iter(stores.values())).items
    done, total = 0, sum(len(items(number)) for number in todo)
    for number in todo:
        names, squares, found = _read(pictures, items(number), size)
        damaged |= found
        check_damage(pictures, damaged)
        if not squares:
            raise DataError(f"none of {len(items(number))} pictures in a row of {pictures.name} can be read{_list(found)}")
        for network in networks:
            if number in missing[network.name]:
                rows = feature_rows(network, as_uint8(squares), names, batch_size)
                stores[network.name].write(number, Chunk(rows=rows, damaged=found))
        done += len(items(number))
        progress("features", done, total)
    return stores


def check_damage(pictures: PictureSet, damaged: dict[str, str]) -> None:
    """Raise `DataError`, naming some, for more damaged pictures than a few in a hundred."""
    if len(damaged) > ALLOWED_DAMAGE * len(pictures):
        raise DataError(
            f"{pictures.name} holds {len(damaged)} pictures of {len(pictures)} that cannot be read{_list(damaged)}; "
            "repair or remove them."
        )


def damage_note(pictures: PictureSet, damaged: dict[str, str]) -> tuple[str, ...]:
    """A note of pictures that were left out, if any were."""
    if not damaged:
        return ()
    return (f"{len(damaged)} pictures of {pictures.name} cannot be read and are left out{_list(damaged)}.",)


def _read(
    pictures: PictureSet, items: Sequence[int], size: int
) -> tuple[list[str], list[Image.Image], dict[str, str]]:
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
