"""Claim: the picture classifier of the default policy blocks few emoji and little clip art, none of which is sexual.

    python benchmarks/safety_pictures.py [--clip-art FOLDER] [--every N]

All emoji of the repository are drawn at 256 px on white, and every picture of a folder of clip art is read (the results
are of Debian's package openclipart-png; what is in its folder of people was looked at where it is blocked).
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import write_result

from unclip.data import emoji_items
from unclip.data.emoji import draw_svg
from unclip.errors import DataError, InputError
from unclip.pictures import open_picture
from unclip.safety import OpenNsfw

THRESHOLDS = (0.5, 0.6, 0.8, 0.95)
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip-art", type=Path)
    parser.add_argument("--every", type=int, default=1, help="Take every n-th picture.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/safety_pictures.json"))
    arguments = parser.parse_args()
    sets: dict[str, Iterable[tuple[str, Image.Image]]] = {"emoji": emoji(arguments.every)}
    if arguments.clip_art is not None:
        sets["clip art"] = clip_art(arguments.clip_art, arguments.every)
    result: dict[str, Any] = {}
    for name, pictures in sets.items():
        result[name] = classify(pictures)
        print(name, {key: value for key, value in result[name].items() if key != "highest"})
    if "clip art" not in result and arguments.out.exists():  # of a run that had some
        result["clip art"] = json.loads(arguments.out.read_text(encoding="utf-8")).get("clip art")
    write_result(arguments.out, result)


def emoji(every: int) -> Iterator[tuple[str, Image.Image]]:
    for item in emoji_items()[::every]:
        try:
            yield item.key, draw_svg(item, 256)
        except DataError:  # three emoji cannot be drawn at every size
            continue


def clip_art(folder: Path, every: int) -> Iterator[tuple[str, Image.Image]]:
    for path in sorted(folder.rglob("*.png"))[::every]:
        try:
            yield str(path.relative_to(folder)), open_picture(path)
        except InputError:  # a damaged file
            continue


def classify(pictures: Iterable[tuple[str, Image.Image]]) -> dict[str, Any]:
    """Return the shares at each threshold, the highest scores by name, and the seconds of a picture."""
    classifier, scores, seconds = OpenNsfw(), dict[str, float](), 0.0
    waiting = iter(pictures)
    while batch := list(islice(waiting, BATCH)):
        started = time.perf_counter()
        found = classifier.classify([picture for _, picture in batch])
        seconds += time.perf_counter() - started
        scores |= {name: one["sexual"] for (name, _), one in zip(batch, found, strict=True)}
    values = np.array(list(scores.values()))
    highest = sorted(scores, key=lambda name: -scores[name])[:20]
    return {
        "num_pictures": len(values),
        "blocked": {str(threshold): float((values >= threshold).mean()) for threshold in THRESHOLDS},
        "median": float(np.median(values)),
        "ms_per_picture": round(1e3 * seconds / len(values), 2),
        "highest": {name: round(scores[name], 3) for name in highest},
    }


if __name__ == "__main__":
    main()
