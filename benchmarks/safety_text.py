"""Claim: the prompt filter catches 19 of 20 disguised prompts and refuses no harmless one, in less than 1 ms a prompt.

    python benchmarks/safety_text.py

The prompts of safety/disguised.jsonl were written with the filter, and its first misses (28 of 200) were looked at:
of five fresh draws of disguises of the same sentences it catches 181 to 194 of 200. False alarms are counted on the
harmless lines of that file, which look like disguises, and on the prompts of safety/harmless.jsonl; labels of emoji
are counted by category, since some of them are meant.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from record import write_result

from unclip.data import emoji_items
from unclip.safety.text import WordFilter, normalize, word_categories

FOLDER = Path(__file__).with_name("safety")
HELPERS = ("minors",)
"""Categories that are no reason to refuse a prompt by themselves."""
LONG = {
    "prose": "a small brown dog on a skateboard wears sunglasses, ",
    "spaced letters": "n o t h i n g ",
    "ambiguous signs": "a1!*6 s$b|t ",
    "marks": "e\u0300\u0316",
    "one letter": "a",
    "Han characters": "一只猫在看书",
}


def main() -> None:
    """Print shares, false alarms and times, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/safety_text.json"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    words = WordFilter.read(word_categories())
    load_ms = round(1e3 * (time.perf_counter() - started), 1)
    rows, prompts = read("disguised.jsonl"), [row["text"] for row in read("harmless.jsonl")]
    disguised = [row for row in rows if row["category"] is not None]
    lookalikes = [row["text"] for row in rows if row["category"] is None]
    is_caught = [row["category"] in found(words, row["text"]) for row in disguised]
    captions = sorted({item.label for item in emoji_items()})
    result: dict[str, Any] = {
        "caught": share(is_caught),
        "caught_by_kind": by("kind", disguised, is_caught),
        "caught_by_category": by("category", disguised, is_caught),
        "missed": [row for row, one in zip(disguised, is_caught, strict=True) if not one],
        "false_alarms_lookalikes": share([bool(found(words, text)) for text in lookalikes]),
        "false_alarms_harmless": share([bool(found(words, text)) for text in prompts]),
        "emoji_labels": len(captions),
        "emoji_labels_by_category": dict(Counter(one for text in captions for one in found(words, text)).most_common()),
        "load_ms": load_ms,
        "ms_per_prompt": round(statistics.median(milliseconds(words, text) for text in prompts), 4),
        "ms_per_77_words": round(milliseconds(words, LONG["prose"] * 9), 3),
        "ms_per_100000_characters": {
            name: round(milliseconds(words, (text * (100_000 // len(text)))), 1) for name, text in LONG.items()
        },
    }
    print(json.dumps(write_result(arguments.out, result), indent=2, ensure_ascii=False))


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def found(words: WordFilter, text: str) -> set[str]:
    normalize(text)
    return {hit.category for hit in words.find(text)}.difference(HELPERS)


def share(flags: list[bool]) -> dict[str, float]:
    return {"count": sum(flags), "of": len(flags), "share": round(sum(flags) / len(flags), 4)}


def by(field: str, rows: list[dict[str, Any]], flags: list[bool]) -> dict[str, str]:
    values = dict.fromkeys(row[field] for row in rows)
    groups = {value: [flag for row, flag in zip(rows, flags, strict=True) if row[field] == value] for value in values}
    return {value: f"{sum(group)} of {len(group)}" for value, group in groups.items()}


def milliseconds(words: WordFilter, text: str, repeats: int = 3) -> float:
    """Return the best of some runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        words.find(text)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


if __name__ == "__main__":
    main()
