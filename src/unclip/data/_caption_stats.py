"""Numbers about captions. Knows texts and CLIP's tokenizer; no picture."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from unclip.config import Config

__all__ = ["CONTEXT_LENGTH", "CaptionStats", "Spread", "caption_stats"]

CONTEXT_LENGTH = 77
"""Tokens that CLIP reads, its start and end tokens included."""
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
NUM_SHOWN = 20
CAPTIONS_PER_BATCH = 1000


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
