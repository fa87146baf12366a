"""What one sample is like, as numbers. Knows one picture at a time; no set."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64
from PIL import Image

from unclip.data._fit import decode_picture
from unclip.data._parallel import ordered_map
from unclip.data._phash import Look, look_of
from unclip.data._source import Broken, Sample, Source
from unclip.errors import DataError

__all__ = ["Measured", "NsfwScore", "measure", "measure_all"]

NsfwScore: TypeAlias = Callable[[Image.Image], float]


class Measured(NamedTuple):
    """What is kept of a sample that could be read."""

    size: tuple[int, int]
    """Width and height, upright."""
    num_bytes: int
    look: Look
    mean: Float64[np.ndarray, "3"]
    """Of each channel, in [0, 1]."""
    mean_square: Float64[np.ndarray, "3"]
    captions: tuple[str, ...]
    nsfw: float
    """0 without a judge."""


def measure_all(
    source: Source,
    progress: Callable[[int, int], None] | None,
    num_workers: int,
    nsfw: NsfwScore | None = None,
) -> Iterator[Measured | Broken]:
    """`measure` for each sample of a source in its order; `progress` is called with (done, total)."""
    items = zip(source.names, source, strict=True)
    for done, result in enumerate(ordered_map(partial(measure, nsfw=nsfw), items, num_workers), start=1):
        yield result
        if progress is not None:
            progress(done, len(source))


def measure(item: tuple[str, Sample | Broken], nsfw: NsfwScore | None = None) -> Measured | Broken:
    """Decode one sample, given with its name, and measure it."""
    name, sample = item
    if isinstance(sample, Broken):
        return sample
    try:
        picture = decode_picture(sample.picture)
    except DataError as error:
        return Broken(name=name, reason=str(error))
    # Pillow counts each channel's 256 values; the pixels themselves never become floats.
    shares = np.array(picture.histogram(), dtype=np.float64).reshape(3, 256) / (picture.width * picture.height)
    values = np.arange(256) / 255
    return Measured(
        size=picture.size,
        num_bytes=len(sample.picture),
        look=look_of(picture),
        mean=shares @ values,
        mean_square=shares @ values**2,
        captions=sample.captions,
        nsfw=0.0 if nsfw is None else float(nsfw(picture)),
    )
