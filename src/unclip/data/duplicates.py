"""Find pictures that look the same, by perceptual hashes and colours."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from PIL import Image

from unclip.errors import InputError

Hashes: TypeAlias = UInt64[np.ndarray, " pictures"]
Colours: TypeAlias = UInt8[np.ndarray, "pictures values"]
HASH_BITS = 64
SIDE, KEPT = 32, 8
"""Pixels of the grey thumbnail that is hashed, and its lowest frequencies in each direction."""
COLOUR_SIDE = 4
MAX_COLOUR_DIFFERENCE = 24
"""Of 255, in any cell of a 4 x 4 thumbnail: JPEG and scaling stay far below, another skin tone or colour far above."""


class Look(NamedTuple):
    """The features that pictures which look the same share."""

    hash: int
    """64 bits that depend on brightness alone."""
    colours: bytes
    """A 4 x 4 RGB thumbnail: the hash knows no colour, and all flat pictures have the same."""


class Duplicate(NamedTuple):
    """A picture, the first one that it looks like, and the number of bits in which their hashes differ."""

    picture: int
    first: int
    distance: int


def look_of(picture: Image.Image) -> Look:
    """Compute the look of an RGB picture of any size."""
    colours = picture.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return Look(perceptual_hash(picture), colours.tobytes())


def perceptual_hash(picture: Image.Image) -> int:
    """Compute 64 bits: whether each of the lowest 8 x 8 frequencies, without the constant, is above their median."""
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    # DCT-II, frequencies 1 to 8.
    frequency, place = np.arange(1, KEPT + 1)[:, None], np.arange(SIDE)[None, :]
    basis = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE))
    low = basis @ np.asarray(grey, dtype=np.float64) @ basis.T  # (8, 8)
    # Rounded, so that a flat picture's numerical dust does not become bits.
    bits = (low - np.median(low)).round(6) > 0
    return int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big")


def find_duplicates(looks: list[Look], max_distance: int) -> list[Duplicate]:
    """Find for each picture the first one that it looks like, if any; hashes may differ in `max_distance` bits.

    Two hashes that differ in at most d of 64 bits agree in at least two of d + 2 blocks of bits. So pictures are
    compared only where two blocks agree: for d = 4, with one in 160,000 others, which takes a million different
    pictures ten seconds on one core. Raises `InputError` for a distance outside 0 to 16.
    """
    if not 0 <= max_distance <= 16:
        raise InputError(f"max_distance={max_distance} is out of range; use 0 (equal) to 16 of {HASH_BITS} bits.")
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    thumbnails = b"".join(look.colours for look in looks)
    colours = np.frombuffer(thumbnails, dtype=np.uint8).reshape(len(looks), 3 * COLOUR_SIDE**2)
    # Copies first, or a thousand of them would be half a million pairs.
    joined = np.concatenate([hashes.view(np.uint8).reshape(len(looks), 8), colours], axis=1)
    _, kept, copy_of = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    first_equal = kept[copy_of.reshape(-1)]  # (pictures,)
    kept = np.sort(kept)
    first_similar = np.arange(len(looks))
    first_similar[kept] = kept[_first_similar(hashes[kept], colours[kept], max_distance)]
    first = first_similar[first_equal]
    distances = np.bitwise_count(hashes ^ hashes[first])
    return [
        Duplicate(int(index), int(first[index]), int(distances[index]))
        for index in np.flatnonzero(first < np.arange(len(looks)))
    ]


def _first_similar(hashes: Hashes, colours: Colours, max_distance: int) -> Int64[np.ndarray, " pictures"]:
    """Find for each picture the first similar one, which may be itself."""
    first = np.arange(len(hashes))
    for mask in _masks(max_distance):
        for earlier, later in _pairs(hashes & np.uint64(mask)):
            similar = np.bitwise_count(hashes[earlier] ^ hashes[later]) <= max_distance
            earlier, later = earlier[similar], later[similar]
            apart = np.abs(colours[earlier].astype(np.int16) - colours[later]).max(axis=1, initial=0)
            near = apart <= MAX_COLOUR_DIFFERENCE
            np.minimum.at(first, later[near], earlier[near])
    return first


def _masks(max_distance: int) -> list[int]:
    """Make masks of the bits of every two of d + 2 blocks."""
    edges = [HASH_BITS * block // (max_distance + 2) for block in range(max_distance + 3)]
    blocks = [2**high - 2**low for low, high in pairwise(edges)]
    return [first | second for first, second in combinations(blocks, 2)]


def _pairs(values: Hashes) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Yield all pairs of indices (smaller, larger) with equal values, in arrays of pairs that are equally far apart."""
    order = np.argsort(values, kind="stable")
    ordered, places, step = values[order], np.arange(len(values)), 0
    while len(places):
        step += 1
        places = places[places >= step]
        places = places[ordered[places] == ordered[places - step]]
        yield order[places - step], order[places]
