"""Learned merges against the definition: count all pairs anew after every merge."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from unclip.clip.tokenizer import learn_merges, merge


def learn_slowly(words: dict[tuple[str, ...], int], num_merges: int) -> list[tuple[str, str]]:
    spelled = [(list(word), count) for word, count in words.items()]
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        counts: Counter[tuple[str, str]] = Counter()
        for word, count in spelled:
            for pair in pairwise(word):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None:
            break
        merges.append(best)
        spelled = [(merge(word, best), count) for word, count in spelled]
    return merges


WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9).map(tuple), st.integers(1, 5), max_size=12)


@given(WORDS, st.integers(0, 30))
def test_equals_the_definition(words: dict[tuple[str, ...], int], num_merges: int) -> None:
    assert learn_merges(words, num_merges) == learn_slowly(words, num_merges)


def test_merges_from_the_left() -> None:
    assert merge(list("aaaab"), ("a", "a")) == ["aa", "aa", "b"]
    assert merge(list("aaa"), ("a", "a")) == ["aa", "a"]
    assert merge(["ab", "c", "ab", "c"], ("ab", "c")) == ["abc", "abc"]


def test_does_not_depend_on_the_process_or_the_order_of_words() -> None:
    program = (
        "from unclip.clip.tokenizer import learn_merges\n"
        "words = {tuple(a + b + c): 2 for a in 'xyz' for b in 'xyz' for c in 'xyz'}\n"
        "print(learn_merges(words, 20), learn_merges(dict(reversed(words.items())), 20))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(outputs) == 1
    first, second = outputs.pop().strip().split("] [")
    assert first + "]" == "[" + second
