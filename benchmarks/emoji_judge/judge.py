"""Measure a text-to-emoji model by the judge: one table, and all figures as JSON.

    python benchmarks/emoji_judge/judge.py MODEL --shards runs/emoji_judge/shards [--parts captions,test] [--final]

MODEL is what `unclip.UnClip.load` takes. Drawing takes the time: `--num-prompts` bounds each part, and `--parts`
chooses some. Prompts and seeds are fixed, so the same model gives the same table. The test half of the phrases is
opened by `--final` alone, once, for the report.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from network import WEIGHTS  # noqa: E402
from parts import PARTS, phrases  # noqa: E402
from record import write_result  # noqa: E402
from subject import Subject  # noqa: E402

from unclip.errors import InputError, UnclipError, did_you_mean  # noqa: E402
from unclip.files import atomic_write  # noqa: E402

TITLES = {
    "captions": "captions of train pictures",
    "test": "test items (design and concept never seen together)",
    "phrases": "words and phrases that are no captions, development half",
    "phrases_final": "words and phrases that are no captions, test half",
    "stages.from_image_embedding": "test items, from their real image embeddings",
}
COLUMNS = ("top1", "top5", "real_top1", "real_top5", "top1_of_real", "top5_of_real", "count")


def main() -> int:
    """Measure the parts, print the table and write it; the exit code is 2 for a wrong call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="emoji")
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji_judge/shards"), help="folder of train and test")
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--num-prompts", type=int, default=400, help="most prompts, or pictures, of a part")
    parser.add_argument("--image-size", type=int, help="default: the model's smallest size from 64 px on")
    parser.add_argument("--options", default="{}", help='of drawing, as JSON, such as {"num_steps": {"decoder": 10}}')
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets and the judge's ranks")
    parser.add_argument("--drawings", type=Path, help="folder that keeps drawn pictures for another judge")
    parser.add_argument("--failures", type=Path, help="picture of some captions that were drawn wrong")
    parser.add_argument("--final", action="store_true", help="open the test half of the phrases")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--show", type=Path, help="print the Markdown table of figures that --json wrote, and stop")
    arguments = parser.parse_args()
    if arguments.show:
        print("\n".join(markdown(json.loads(arguments.show.read_text()))))
        return 0
    try:
        parts = chosen_parts(arguments.parts, is_final=arguments.final)
        subject = Subject.open(
            arguments.model,
            arguments.judge,
            arguments.shards,
            arguments.image_size,
            json.loads(arguments.options),
            arguments.sheets,
            arguments.drawings,
            arguments.failures,
        )
        result: dict[str, Any] = {
            "model": arguments.model,
            "weights": subject.fingerprint,
            "judge": subject.judge.fingerprint,
            "image_size": subject.image_size,
            "options": dict(subject.options),
            "num_prompts": arguments.num_prompts,
        }
        for name, part in parts.items():
            started = time.monotonic()
            result[name] = part(subject, arguments.num_prompts)
            result[name]["seconds"] = round(time.monotonic() - started)
            if arguments.json:  # a part that fails later loses nothing
                write_result(arguments.json, result)
    except UnclipError as error:
        print(error, file=sys.stderr)
        return 2
    table = "\n".join(lines(result))
    print(table)
    if arguments.sheets:
        atomic_write(arguments.sheets / "table.txt", table + "\n")
    return 0


def chosen_parts(names: str, *, is_final: bool) -> dict[str, Any]:
    """Return the parts by name, in the order of the table; raises `InputError` for an unknown one."""
    chosen = names.split(",")
    for name in chosen:
        if name not in PARTS:
            raise InputError(f"--parts: {name!r} is unknown; {did_you_mean(name, PARTS)}")
    parts: dict[str, Any] = {name: part for name, part in PARTS.items() if name in chosen}
    return parts | ({"phrases_final": partial(phrases, half="test")} if is_final else {})


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Write the table: shares beside those of real pictures, then the other figures, one a line."""
    yield f"{result['model']}, drawn at {result['image_size']} px"
    yield f"{'':36}" + "".join(f"{column:>13}" for column in COLUMNS)
    others = []
    for name, values in flat(result):
        if "top1_of_real" in values:
            yield f"{name:36}" + "".join(f"{values[column]:>13}" for column in COLUMNS)
        scalars = {key: value for key, value in values.items() if key not in COLUMNS and key != "seconds"}
        figures = {key: value for key, value in scalars.items() if isinstance(value, int | float)}
        if figures:
            others.append(f"{name:36}" + ", ".join(f"{key} {value}" for key, value in figures.items()))
    yield from others


def markdown(result: Mapping[str, Any]) -> Iterator[str]:
    """Write the rows that name what was drawn, top-1 / top-5 in percent, as the pages show them."""
    size = result["image_size"]
    yield f"| drawn at {size} px, named by the judge: top-1 / top-5 | drawn | real pictures | of real | pictures |"
    yield "|---|---|---|---|---|"
    for name, values in flat(result):
        part, _, kind = name.rpartition(".")
        title = TITLES.get(name) or (f"{TITLES[part]}: {kind}" if part in TITLES and "." not in part else None)
        if title and "top1_of_real" in values:
            shown = [f"{100 * values[f'top1{of}']:.0f} / {100 * values[f'top5{of}']:.0f} %" for of in ("", "_of_real")]
            real = f"{100 * values['real_top1']:.0f} / {100 * values['real_top5']:.0f} %"
            yield f"| {title} | {shown[0]} | {real} | {shown[1]} | {values['count']} |"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every mapping inside `values` by its dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping) and key not in ("options", "versions"):
            yield f"{prefix}{key}", value
            yield from flat(value, f"{prefix}{key}.")


if __name__ == "__main__":
    sys.exit(main())
