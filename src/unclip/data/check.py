"""Check a data set for damaged, small and duplicate pictures, and count what is in it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from statistics import fmean, median
from tarfile import BLOCKSIZE
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64
from PIL import Image

from unclip.config import Config
from unclip.data.duplicates import HASH_BITS, Look, find_duplicates, look_of
from unclip.data.parallel import map_samples
from unclip.data.pictures import decode_picture
from unclip.data.prepare import PrepareConfig, make_shard_sample
from unclip.data.sources.base import Broken, Sample, Source
from unclip.errors import DataError, InputError
from unclip.progress import Progress

NsfwScore: TypeAlias = Callable[[Image.Image], float]
Problem = Literal["unreadable", "tiny", "aspect", "duplicate", "uncaptioned", "nsfw"]
CONTEXT_LENGTH = 77
"""Tokens that CLIP reads, its start and end tokens included."""
CAPTIONS_PER_BATCH = 1000
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
NUM_SHOWN = 20
SIDES = (1, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ASPECTS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
NUM_PREPARED = 100


class Spread(Config):
    """Range and averages of a number over a set."""

    smallest: float
    median: float
    mean: float
    largest: float


class CaptionStats(Config):
    """Statistics of the captions of a set; empty ones are left out of all but `num_uncaptioned`."""

    num_captions: int
    num_uncaptioned: int
    """Samples without any caption."""
    num_distinct: int
    words: Spread | None
    """Words per caption; None without captions, as for the tokens."""
    tokens: Spread | None
    """Tokens of OpenAI's CLIP tokenizer, start and end included, counted up to 77."""
    num_cut: int
    """Captions whose end CLIP does not read."""
    frequent_words: dict[str, int]
    """The 20 most frequent, in lower case."""
    repeated_captions: dict[str, int]
    """The 20 most frequent captions of several samples."""


class CheckConfig(Config):
    """Thresholds of the problems."""

    min_side: int = 64
    """Pictures whose shorter side has fewer pixels are "tiny"."""
    max_aspect: float = 4.0
    """Pictures whose longer side is more than so many times the shorter are "aspect"."""
    max_distance: int = 4
    """Pictures are duplicates when at most so many of the 64 bits of their hashes differ, and their colours agree."""
    nsfw_threshold: float = 0.5
    """Pictures are "nsfw" from this score on; without a function that scores them none is."""


class Finding(Config):
    """One problem of one sample."""

    name: str
    problem: Problem
    detail: str


class CheckReport(Config):
    """Report of `check`."""

    description: str
    num_samples: int
    num_bad: int
    """Samples with at least one problem; of pictures that look the same, the first is good."""
    counts: dict[Problem, int]
    captions: CaptionStats
    """Repeated captions are listed here and are no problem: pictures of one class share theirs."""
    findings: tuple[Finding, ...]
    """In the order of the samples."""

    @property
    def bad_share(self) -> float:
        """Bad samples among all."""
        return self.num_bad / self.num_samples


class Stats(Config):
    """Counts and averages over the readable pictures of a set."""

    description: str
    num_samples: int
    num_unreadable: int
    num_bytes: int
    """Bytes of the encoded pictures as they are now."""
    sides: dict[str, int]
    """Pictures by their shorter side in pixels."""
    aspects: dict[str, int]
    """Pictures by width / height."""
    mean: tuple[float, float, float]
    """Mean of red, green and blue in [0, 1]; every picture counts alike."""
    std: tuple[float, float, float]
    captions: CaptionStats
    prepared_bytes: int | None
    """What `prepare` with these settings would write, estimated from up to 100 samples; None without settings."""


def check(
    source: Source,
    config: CheckConfig | None = None,
    progress: Progress | None = None,
    *,
    nsfw: NsfwScore | None = None,
    num_workers: int = 1,
) -> CheckReport:
    """Decode every picture of `source` and report the problems that a training run would meet.

    `nsfw` takes each picture (RGB) and returns a score, which is compared with the threshold. About 1 kB a picture
    is held in memory, and the captions. With more than one worker, `nsfw` must be a function of a module, and a script
    needs the `if __name__ == "__main__"` guard. Raises `InputError` for settings out of range.
    """
    config = config or CheckConfig()
    if config.max_aspect < 1 or config.min_side < 1:
        raise InputError(f"max_aspect={config.max_aspect}, min_side={config.min_side}: use 1 or more.")
    results = list(map_samples(partial(_measure, nsfw=nsfw), source, range(len(source)), num_workers, progress))
    readable = [(index, result) for index, result in enumerate(results) if isinstance(result, _Measurement)]
    captions = _caption_stats(result.captions for _, result in readable)
    # A set without any caption is for training without text; there a missing one is no problem.
    problems = [list(_problems(result, config, captions.num_captions > 0)) for result in results]
    for copy, first, distance in find_duplicates([result.look for _, result in readable], config.max_distance):
        detail = f"looks like {source.names[readable[first][0]]} ({distance} of {HASH_BITS} bits differ)"
        problems[readable[copy][0]].append(("duplicate", detail))
    findings = tuple(
        Finding(name=name, problem=problem, detail=detail)
        for name, listed in zip(source.names, problems, strict=True)
        for problem, detail in listed
    )
    return CheckReport(
        description=source.description,
        num_samples=len(source),
        num_bad=sum(bool(listed) for listed in problems),
        counts=dict(Counter(finding.problem for finding in findings)),
        captions=captions,
        findings=findings,
    )


def _problems(
    result: "_Measurement | Broken", config: CheckConfig, has_captions: bool
) -> Iterator[tuple[Problem, str]]:
    if isinstance(result, Broken):
        yield "unreadable", result.reason
        return
    short, long = sorted(result.size)
    size = f"{result.size[0]} x {result.size[1]} pixels"
    if short < config.min_side:
        yield "tiny", f"{size}, fewer than {config.min_side}"
    if long > config.max_aspect * short:
        yield "aspect", f"{size}, more than {config.max_aspect:g} to 1"
    if has_captions and not any(text.strip() for text in result.captions):
        yield "uncaptioned", "no caption"
    if result.nsfw >= config.nsfw_threshold:
        yield "nsfw", f"score {result.nsfw:.3f}, from {config.nsfw_threshold:g} on"


def stats(
    source: Source, prepared: PrepareConfig | None = None, progress: Progress | None = None, *, num_workers: int = 1
) -> Stats:
    """Count the pictures and captions of `source`; with settings of `prepare`, also the bytes of its shards.

    Raises `DataError` if no picture can be read. With more than one worker a script needs the
    `if __name__ == "__main__"` guard.
    """
    measured = map_samples(partial(_measure, nsfw=None), source, range(len(source)), num_workers, progress)
    results = [result for result in measured if isinstance(result, _Measurement)]
    if not results:
        raise DataError(f"none of the {len(source)} pictures can be read; see `unclip data check`.")
    mean = np.mean([result.mean for result in results], axis=0)
    square = np.mean([result.mean_square for result in results], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return Stats(
        description=source.description,
        num_samples=len(source),
        num_unreadable=len(source) - len(results),
        num_bytes=sum(result.num_bytes for result in results),
        sides=_histogram([min(result.size) for result in results], SIDES),
        aspects=_histogram([result.size[0] / result.size[1] for result in results], ASPECTS),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        captions=_caption_stats(result.captions for result in results),
        prepared_bytes=None if prepared is None else _prepared_bytes(source, prepared),
    )


def _histogram(values: Sequence[float], edges: Sequence[float]) -> dict[str, int]:
    """Count the values from each edge on to below the next; the last class is open."""
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)] + [f"{edges[-1]:g} and more"]
    counts, _ = np.histogram(values, [*edges, np.inf])
    return dict(zip(labels, counts.tolist(), strict=True))


def _prepared_bytes(source: Source, config: PrepareConfig) -> int:
    count = min(len(source), NUM_PREPARED)
    indices = [index * len(source) // count for index in range(count)]
    samples = map_samples(partial(make_shard_sample, config=config), source, indices)
    files = (file for sample in samples if not isinstance(sample, Broken) for file in sample.files.values())
    # In a tar, a header and the content of each file, in whole blocks.
    num_bytes = sum(BLOCKSIZE * (1 + -(-len(file) // BLOCKSIZE)) for file in files)
    return round(num_bytes / count * len(source))


class _Measurement(NamedTuple):
    """Features of a readable sample."""

    size: tuple[int, int]
    """Width and height, upright."""
    num_bytes: int
    look: Look
    mean: Float64[np.ndarray, "3"]
    """Of each channel, in [0, 1]."""
    mean_square: Float64[np.ndarray, "3"]
    captions: tuple[str, ...]
    nsfw: float
    """0 without a function that scores."""


def _measure(sample: Sample, nsfw: NsfwScore | None) -> _Measurement:
    picture = decode_picture(sample.picture)
    # Pillow counts each channel's 256 values; the pixels themselves never become floats.
    shares = np.array(picture.histogram(), dtype=np.float64).reshape(3, 256) / (picture.width * picture.height)
    values = np.arange(256) / 255
    try:
        score = 0.0 if nsfw is None else float(nsfw(picture))
    except DataError as error:  # of the function, not of the picture
        raise InputError(f"nsfw failed on {sample.key}: {error}") from error
    return _Measurement(
        size=picture.size,
        num_bytes=len(sample.picture),
        look=look_of(picture),
        mean=shares @ values,
        mean_square=shares @ values**2,
        captions=sample.captions,
        nsfw=score,
    )


def _caption_stats(captions_of_samples: Iterable[Sequence[str]]) -> CaptionStats:
    from unclip.clip import Tokenizer

    num_uncaptioned, texts, words = 0, Counter[str](), Counter[str]()
    num_words: list[int] = []
    for captions in captions_of_samples:
        captions = [text for text in captions if text.strip()]
        num_uncaptioned += not captions
        texts.update(captions)
        for text in captions:
            words_of_text = WORD.findall(text.lower())
            words.update(words_of_text)
            num_words.append(len(words_of_text))
    # Tokens of repeated captions count again.
    num_tokens, num_cut, distinct = list[int](), 0, list(texts)
    open_tokenizer = cache(Tokenizer.openai)  # takes half a second, which a set without captions need not wait for
    for start in range(0, len(distinct), CAPTIONS_PER_BATCH):
        part = distinct[start : start + CAPTIONS_PER_BATCH]
        batch = open_tokenizer().encode(part, CONTEXT_LENGTH)
        for text, length, cut in zip(part, batch.mask.sum(1).tolist(), batch.cut, strict=True):
            num_tokens += [length] * texts[text]
            num_cut += texts[text] * bool(cut)
    return CaptionStats(
        num_captions=texts.total(),
        num_uncaptioned=num_uncaptioned,
        num_distinct=len(texts),
        words=_spread(num_words),
        tokens=_spread(num_tokens),
        num_cut=num_cut,
        frequent_words=dict(_most_common(words)),
        repeated_captions={text: count for text, count in _most_common(texts) if count > 1},
    )


# Equal counts by name, so that a report does not depend on the order of the set.
def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_SHOWN]


def _spread(numbers: Sequence[int]) -> Spread | None:
    if not numbers:
        return None
    return Spread(smallest=min(numbers), median=median(numbers), mean=fmean(numbers), largest=max(numbers))
