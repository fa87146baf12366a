"""The lists that a model is measured on: synonyms and phrases, compositions, and the prompts of README's sheet.

    python benchmarks/emoji_judge/lists.py --shards runs/emoji_judge/shards

writes `sheet.txt` anew: 8 concepts each of eight groups of the data set, drawn by a seed. Flags and letters, which few
people can name, are left out. The phrases were written by hand before any model was measured on them; `phrases_test`
is for one measurement at the end.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unclip.data import ShardSet
from unclip.errors import InputError

HERE = Path(__file__).parent
SHEET = HERE / "sheet.txt"
SHEET_GROUPS = (
    "smileys-emotion",
    "people-body",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
)
PER_GROUP, SHEET_SEED = 8, 0
ARTICLES = ("", "a ", "an ", "the ")


class Phrase(NamedTuple):
    """A text and the concepts that count as right."""

    text: str
    kind: str
    """synonym or phrase."""
    concepts: list[str]


class Composition(NamedTuple):
    """A text and what shall be seen."""

    text: str
    kind: str
    """colour, count, accessory or pair."""
    colour: str | None
    """The main colour, by the names of `colours.py`; None if any is right."""
    things: list[list[str]]
    """For each thing the concepts that count as it."""


def read_phrases(half: str) -> list[Phrase]:
    """Read a half of the phrases, "dev" or "test"."""
    return [Phrase(**row) for row in _rows(HERE / f"phrases_{half}.jsonl")]


def read_compositions() -> list[Composition]:
    """Read the compositions."""
    return [Composition(**row) for row in _rows(HERE / "compositions.jsonl")]


def words_of(samples: Iterable[Mapping[str, Any]]) -> set[str]:
    """Collect all texts that a training reads, in lower case: captions, labels and tags of the samples' .json."""
    return {
        text.lower() for info in samples for text in (*info["captions"], *info["tags"], info["label"], info["concept"])
    }


def is_caption(text: str, words: set[str]) -> bool:
    """Return whether a text stands among `words`, with or without an article."""
    plain = text.lower()
    for article in ARTICLES[1:]:
        plain = plain.removeprefix(article)
    return any(f"{article}{plain}" in words for article in ARTICLES)


def draw_sheet(samples: Iterable[Mapping[str, Any]]) -> list[str]:
    """Draw the prompts of the sheet: concepts of each group by one seed, in a random order.

    Raises `InputError` for samples of too few concepts of a group.
    """
    concepts: dict[str, set[str]] = {group: set() for group in SHEET_GROUPS}
    for info in samples:
        if info["group"] in concepts and info["concept"]:
            concepts[info["group"]].add(info["concept"])
    generator, prompts = np.random.default_rng(SHEET_SEED), list[str]()
    for group, names in concepts.items():
        if len(names) < PER_GROUP:
            raise InputError(f"{len(names)} concepts of {group} are too few to draw {PER_GROUP} of; use all shards.")
        prompts += generator.permutation(sorted(names))[:PER_GROUP].tolist()
    return generator.permutation(prompts).tolist()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Write the sheet's prompts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji_judge/shards"))
    shards = ShardSet.open(parser.parse_args().shards / "train")
    prompts = draw_sheet(dict(shards.sample(index).info) for index in range(len(shards)))
    SHEET.write_text("\n".join(prompts) + "\n")


if __name__ == "__main__":
    main()
