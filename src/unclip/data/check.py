"""Checks of a data set: damaged, small and duplicate pictures, captions."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from statistics import fmean, median
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64
from PIL import Image

from unclip.config import Config
from unclip.data.parallel import ordered_map
from unclip.data.phash import HASH_BITS, Look, find_duplicates, look_of
from unclip.data.pixels import decode_picture
from unclip.data.sources.base import Broken, Sample, Source
from unclip.errors import DataError, InputError

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


Problem = Literal["unreadable", "tiny", "aspect", "duplicate", "uncaptioned", "nsfw"]


class Spread(Config):
    """How a number is spread over a set."""

    smallest: float
    median: float
    mean: float
    largest: float


class CaptionStats(Config):
    """What the captions of a set are like; empty ones are left out of all but `num_uncaptioned`."""

    num_captions: int
    num_uncaptioned: int
    """Samples without any caption."""
    num_distinct: int
    words: Spread | None
    """Per caption; None where there is no caption, as of the tokens."""
    tokens: Spread | None
    """Of OpenAI's CLIP tokenizer, start and end included, counted up to 77."""
    num_cut: int
    """Captions of which CLIP does not read the end."""
    frequent_words: dict[str, int]
    """The 20 most frequent, in lower case."""
    repeated_captions: dict[str, int]
    """The 20 most frequent of those that several samples have."""


class CheckConfig(Config):
    """What counts as a problem."""

    min_side: int = 64
    """Pictures whose shorter side has fewer pixels are "tiny"."""
    max_aspect: float = 4.0
    """Pictures whose longer side is more than so many times the shorter are found as "aspect"."""
    max_distance: int = 4
    """Pictures are duplicates when at most so many of the 64 bits of their hashes differ, and their colours agree."""
    nsfw_threshold: float = 0.5
    """Pictures are "nsfw" from this score on; without a judge none is."""


class Finding(Config):
    """One problem of one sample."""

    name: str
    problem: Problem
    detail: str


class Report(Config):
    """What `check` found."""

    description: str
    num_samples: int
    num_bad: int
    """Samples with at least one problem; of pictures that look the same, the first is good."""
    counts: dict[Problem, int]
    captions: CaptionStats
    """Repeated captions are told here and are no problem: classes share theirs."""
    findings: tuple[Finding, ...]
    """In the order of the samples."""

    @property
    def bad_share(self) -> float:
        """Bad samples among all."""
        return self.num_bad / self.num_samples


def check(
    source: Source,
    config: CheckConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    nsfw: NsfwScore | None = None,
    num_workers: int = 1,
) -> Report:
    """Decode every picture of `source` and report what a trainer would stumble over.

    `nsfw` gets each picture (RGB) and returns a score, which is compared with the threshold. About 1 kB a picture
    is held in memory, and what the captions take. With more than one worker, `nsfw` must be a function of a module,
    and a script needs the `if __name__ == "__main__"` guard. Raises `InputError` for settings out of range.
    """
    config = config or CheckConfig()
    if config.max_aspect < 1 or config.min_side < 1:
        raise InputError(f"max_aspect={config.max_aspect}, min_side={config.min_side}: use 1 or more.")
    results = list(measure_all(source, progress, num_workers, nsfw))
    problems: list[list[tuple[Problem, str]]] = [list(_problems(result, config)) for result in results]
    for index, duplicate in _duplicates(source.names, results, config.max_distance):
        problems[index].append(("duplicate", duplicate))
    captions = caption_stats([result.captions for result in results if isinstance(result, Measured)])
    # A set without any caption is for training without text; there a missing one is no problem.
    if captions.num_captions == 0:
        problems = [[found for found in listed if found[0] != "uncaptioned"] for listed in problems]
    findings = tuple(
        Finding(name=name, problem=problem, detail=detail)
        for name, listed in zip(source.names, problems, strict=True)
        for problem, detail in listed
    )
    return Report(
        description=source.description,
        num_samples=len(source),
        num_bad=sum(bool(listed) for listed in problems),
        counts=dict(Counter(finding.problem for finding in findings)),
        captions=captions,
        findings=findings,
    )


def _problems(result: Measured | Broken, config: CheckConfig) -> Iterator[tuple[Problem, str]]:
    if isinstance(result, Broken):
        yield "unreadable", result.reason
        return
    short, long = sorted(result.size)
    size = f"{result.size[0]} x {result.size[1]} pixels"
    if short < config.min_side:
        yield "tiny", f"{size}, fewer than {config.min_side}"
    if long > config.max_aspect * short:
        yield "aspect", f"{size}, more than {config.max_aspect:g} to 1"
    if not any(text.strip() for text in result.captions):
        yield "uncaptioned", "no caption"
    if result.nsfw >= config.nsfw_threshold:
        yield "nsfw", f"score {result.nsfw:.3f}, from {config.nsfw_threshold:g} on"


def _duplicates(
    names: Sequence[str], results: Sequence[Measured | Broken], max_distance: int
) -> Iterator[tuple[int, str]]:
    places = [index for index, result in enumerate(results) if isinstance(result, Measured)]
    looks = [result.look for result in results if isinstance(result, Measured)]
    for index, first, distance in find_duplicates(looks, max_distance):
        yield places[index], f"looks like {names[places[first]]} ({distance} of {HASH_BITS} bits differ)"


CONTEXT_LENGTH = 77
"""Tokens that CLIP reads, its start and end tokens included."""


WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


NUM_SHOWN = 20


CAPTIONS_PER_BATCH = 1000


def caption_stats(captions_of_samples: Iterable[Sequence[str]]) -> CaptionStats:
    """Numbers about the captions of each sample, given as one sequence a sample."""
    num_uncaptioned, texts, words = 0, Counter[str](), Counter[str]()
    num_words: list[int] = []
    for captions in captions_of_samples:
        captions = [text for text in captions if text.strip()]
        num_uncaptioned += not captions
        for text in captions:
            found = WORD.findall(text.lower())
            words.update(found)
            num_words.append(len(found))
        texts.update(captions)
    num_tokens, num_cut = _count_tokens(texts)
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


def _count_tokens(texts: Counter[str]) -> tuple[list[int], int]:
    """Tokens of each caption, repeated ones too, and how many captions are cut."""
    from unclip.clip import Tokenizer

    counts, num_cut, distinct = list[int](), 0, list(texts)
    tokenizer = Tokenizer.openai() if distinct else None
    for start in range(0, len(distinct), CAPTIONS_PER_BATCH):
        assert tokenizer is not None
        part = distinct[start : start + CAPTIONS_PER_BATCH]
        batch = tokenizer.encode(part, CONTEXT_LENGTH)
        for text, length, cut in zip(part, batch.mask.sum(1).tolist(), batch.cut, strict=True):
            counts += [length] * texts[text]
            num_cut += texts[text] * bool(cut)
    return counts, num_cut


# Equal counts by name, so that a report does not depend on the order of the set.
def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_SHOWN]


def _spread(numbers: Sequence[int]) -> Spread | None:
    if not numbers:
        return None
    return Spread(smallest=min(numbers), median=median(numbers), mean=fmean(numbers), largest=max(numbers))
