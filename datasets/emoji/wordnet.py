"""Read WordNet from its npm package: words, what they mean, and how common they are. Knows no emoji."""

import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PARTS = ("noun", "verb", "adj")
UNFIT = re.compile(
    r"\b(slurs?|offensive|obscen\w+|vulgar\w*|disparag\w+|derogatory|contemptuous|taboo|pejorative|sex\w*|genital\w*|"
    r"copulat\w+|coit\w+|prostitut\w+|erotic\w*|porno\w*|nudity|incest|rape|nazis?|torture\w*|suicid\w+)\b"
)
"""Words of a definition, or of a word, by which a word is left out."""
KINDS = {"animal": 5, "artifact": 6, "body": 8, "food": 13, "object": 17, "person": 18, "phenomenon": 19, "plant": 20}
"""Numbers of the lexicographer's files of what can be drawn."""


@dataclass(frozen=True)
class Sense:
    """One synset."""

    words: tuple[str, ...]
    """The first is the most usual; with spaces."""
    kind: int
    """Number of the lexicographer's file, as in `KINDS`."""
    hypernyms: tuple[str, ...]
    """Keys of the synsets above it."""
    gloss: str

    @property
    def is_fit(self) -> bool:
        """Whether nothing in it is offensive, sexual or cruel."""
        return not UNFIT.search(f"{self.gloss} {' '.join(self.words)}".lower())


class WordNet:
    """The synsets of nouns, verbs and adjectives, by key (`n02084071`) and by word."""

    def __init__(self, archive: Path) -> None:
        self.synsets: dict[str, Sense] = {}
        self.senses: dict[tuple[str, str], list[str]] = {}
        """Keys of a word's synsets by (part, word), the most frequent sense first."""
        self.counts: Counter[str] = Counter()
        """How often a word or a pair of words stands in the definitions and examples."""
        with tarfile.open(archive) as tar:
            for part in PARTS:
                for line in _lines(tar, f"data.{part}"):
                    self._add_synset(part, line)
                for line in _lines(tar, f"index.{part}"):
                    fields = line.split()
                    keys = [part[0] + offset for offset in fields[-int(fields[2]) :]]
                    self.senses[part, fields[0].replace("_", " ")] = keys

    def _add_synset(self, part: str, line: str) -> None:
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        num_words = int(fields[3], 16)
        words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * num_words : 2]]
        pointers = fields[5 + 2 * num_words :]
        above = [
            pointers[start + 2] + pointers[start + 1]
            for start in range(0, len(pointers) - 3, 4)
            if pointers[start] in ("@", "@i")
        ]
        self.synsets[part[0] + fields[0]] = Sense(tuple(words), int(fields[1]), tuple(above), gloss)
        tokens = re.findall(r"[a-z][a-z'-]*", gloss.lower())
        self.counts.update(tokens)
        self.counts.update(map(" ".join, pairwise(tokens)))

    def first(self, part: str, word: str) -> Sense | None:
        """The most frequent sense of a word, if it has one."""
        keys = self.senses.get((part, word.lower()))
        return self.synsets[keys[0]] if keys else None

    def words(self, part: str, least: int = 1) -> Iterator[str]:
        """Lower-case words of a part of speech that stand in the definitions `least` times, without unfit ones."""
        for (its_part, word), keys in self.senses.items():
            if its_part != part or not re.fullmatch(r"[a-z][a-z' -]*[a-z]", word):
                continue
            senses = [self.synsets[key] for key in keys]
            # Names are capitalised in the synsets, not in the index.
            is_name = not any(word in sense.words for sense in senses)
            if not is_name and all(sense.is_fit for sense in senses) and self.frequency(word) >= least:
                yield word

    def frequency(self, word: str) -> int:
        """How often a word stands in the definitions; of three words or more, the rarest pair."""
        tokens = word.split()
        if len(tokens) < 3:
            return self.counts[word]
        return min(self.counts[" ".join(pair)] for pair in pairwise(tokens))

    def has_kind(self, word: str, kinds: Iterable[int]) -> bool:
        """Whether the most frequent sense of a noun is of one of these kinds."""
        sense = self.first("noun", word)
        return sense is not None and sense.kind in kinds


def _lines(tar: tarfile.TarFile, name: str) -> Iterator[str]:
    file = tar.extractfile(f"package/dict/{name}")
    if file is None:
        raise SystemExit(f"{tar.name} holds no {name}")
    for line in file.read().decode().splitlines():
        if not line.startswith("  "):
            yield line
