"""Learning of byte-pair merges, the same from run to run (the trainer of `tokenizers` breaks ties at random).

Knows words as sequences of symbols and their counts; not where they come from.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

__all__ = ["learn_merges"]

Word = tuple[str, ...]
Pair = tuple[str, str]


# Byte-pair encoding, Sennrich et al. 2016, algorithm 1, with counts kept up to date instead of taken anew.
def learn_merges(words: Mapping[Word, int], num_merges: int) -> list[Pair]:
    """At most `num_merges` pairs, most frequent first, ties in alphabetical order."""
    spelled = [list(word) for word in words]
    frequency = list(words.values())
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(spelled):
        for pair in pairwise(word):
            counts[pair] += frequency[index]
            places[pair].add(index)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < num_merges:
        count, best = heapq.heappop(queue)
        if -count != counts[best]:
            continue  # an old entry: the count has changed since
        if -count < 1:
            break
        merges.append(best)
        changed: set[Pair] = set()
        for index in places.pop(best):
            _count(spelled[index], -frequency[index], counts, changed)
            spelled[index] = merge(spelled[index], best)
            _count(spelled[index], frequency[index], counts, changed)
            for pair in pairwise(spelled[index]):
                places[pair].add(index)
        for pair in sorted(changed):
            heapq.heappush(queue, (-counts[pair], pair))
    return merges


def merge(word: list[str], pair: Pair) -> list[str]:
    """`word` with each occurrence of `pair`, from the left, joined to one symbol."""
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def _count(word: list[str], frequency: int, counts: Counter[Pair], changed: set[Pair]) -> None:
    for pair in pairwise(word):
        counts[pair] += frequency
        changed.add(pair)
