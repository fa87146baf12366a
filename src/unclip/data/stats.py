"""Numbers about captions. Knows texts and CLIP's tokenizer; no picture."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from unclip.config import Config
from unclip.data.check import CaptionStats, Measured, caption_stats, measure_all
from unclip.data.prepare import PrepareConfig, make_shard_sample
from unclip.data.sources.base import Sample, Source
from unclip.data.tars import ShardSample
from unclip.errors import DataError

SIDES = (1, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ASPECTS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
NUM_PREPARED = 100
TAR_BLOCK = 512


class Stats(Config):
    """Counts and averages over the readable pictures of a set."""

    description: str
    num_samples: int
    num_unreadable: int
    num_bytes: int
    """Of the encoded pictures as they are now."""
    sides: dict[str, int]
    """Pictures by their shorter side in pixels."""
    aspects: dict[str, int]
    """Pictures by width / height."""
    mean: tuple[float, float, float]
    """Of red, green and blue in [0, 1]; every picture counts alike."""
    std: tuple[float, float, float]
    captions: CaptionStats
    prepared_bytes: int | None
    """What `prepare` with the settings given would write, estimated from up to 100 samples; None without settings."""


def stats(
    source: Source,
    prepared: PrepareConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    num_workers: int = 1,
) -> Stats:
    """Numbers about `source`; with settings of `prepare`, also what its shards would take on the disk.

    Raises `DataError` when no picture can be read. With more than one worker a script needs the
    `if __name__ == "__main__"` guard.
    """
    read = [result for result in measure_all(source, progress, num_workers) if isinstance(result, Measured)]
    if not read:
        raise DataError(f"none of the {len(source)} pictures can be read; see `unclip data check`.")
    mean = np.mean([result.mean for result in read], axis=0)
    square = np.mean([result.mean_square for result in read], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return Stats(
        description=source.description,
        num_samples=len(source),
        num_unreadable=len(source) - len(read),
        num_bytes=sum(result.num_bytes for result in read),
        sides=_histogram([min(result.size) for result in read], SIDES),
        aspects=_histogram([result.size[0] / result.size[1] for result in read], ASPECTS),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        captions=caption_stats([result.captions for result in read]),
        prepared_bytes=None if prepared is None else _prepared_bytes(source, prepared),
    )


def _histogram(values: Sequence[float], edges: Sequence[float]) -> dict[str, int]:
    """Values from each edge on to below the next; the last class is open."""
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)] + [f"{edges[-1]:g} and more"]
    places = [bisect_right(edges, value) - 1 for value in values]
    return {label: places.count(index) for index, label in enumerate(labels)}


def _prepared_bytes(source: Source, config: PrepareConfig) -> int:
    count = min(len(source), NUM_PREPARED)
    chosen = [source.item(index * len(source) // count) for index in range(count)]
    sizes = [_shard_bytes(sample, config) for sample in chosen if isinstance(sample, Sample)]
    return round(sum(sizes) / count * len(source))


def _shard_bytes(sample: Sample, config: PrepareConfig) -> int:
    """What a sample takes in a tar: per file a header and its content, each in whole blocks; 0 where it is skipped."""
    try:
        made: ShardSample = make_shard_sample(sample, config)
    except DataError:
        return 0
    return sum(TAR_BLOCK * (1 + -(-len(content) // TAR_BLOCK)) for content in made.files.values())
