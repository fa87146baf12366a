"""What is wrong with a set of captioned pictures. Knows what to look for; not where the set comes from."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from unclip.config import Config
from unclip.data._caption_stats import CaptionStats, caption_stats
from unclip.data._measure import Measured, NsfwScore, measure_all
from unclip.data._phash import HASH_BITS, find_duplicates
from unclip.data._source import Broken, Source
from unclip.errors import InputError

__all__ = ["CheckConfig", "Finding", "Report", "check"]

Problem = Literal["unreadable", "tiny", "aspect", "duplicate", "uncaptioned", "nsfw"]


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
