"""`unclip compare`: several evaluations and timings on one page. Knows their files; pipelines write the page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.errors import InputError

if TYPE_CHECKING:
    from unclip.evaluate import Evaluation, Speed


def compare(
    results: Annotated[
        list[Path], typer.Argument(help="results.json of `evaluate`, lines that `bench sample --json` printed.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for comparison.html and comparison.md.")],
) -> None:
    """Put evaluations and timings on one page: tables, quality against seconds, memory against size."""
    from unclip.evaluate import write_comparison

    evaluations, speeds = list["Evaluation"](), list["Speed"]()
    for path in results:
        for found in _objects(path):
            if found.get("command") == "bench sample":
                speeds += _speeds(path, found)
            else:
                evaluations.append(_evaluation(path, found))
    print(write_comparison(evaluations, out, speeds=speeds))


def read_evaluation(path: Path) -> "Evaluation":
    """The one evaluation in a file; raises `InputError` and `ConfigError` in one line for anything else."""
    found = list(_objects(path))
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} results, not one; give the results.json of an evaluation.")
    return _evaluation(path, found[0])


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    """The JSON object that a file holds, or one in each of its lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give the results.json of an evaluation.") from None
    for part in _parts(text):
        try:
            found = json.loads(part)
        except ValueError as error:
            raise InputError(f"{path} is no JSON ({error}); give the results.json of an evaluation.") from None
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no evaluation and no timing; give the results.json of one.")
        yield found


def _parts(text: str) -> Sequence[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines if all(line.startswith("{") and line.rstrip().endswith("}") for line in lines) else [text]


def _evaluation(path: Path, found: Mapping[str, Any]) -> "Evaluation":
    from unclip.config import load_config
    from unclip.evaluate import Evaluation

    if "points" not in found:
        raise InputError(f"{path} holds no evaluation; give the results.json of one.")
    return load_config(Evaluation, found)


def _speeds(path: Path, found: Mapping[str, Any]) -> Iterator["Speed"]:
    """A timing for each batch size of a benchmark."""
    from unclip.config import load_config
    from unclip.evaluate import Speed

    if found.get("image_size") is None:
        raise InputError(f"{path} has timings of {found.get('subject')} without a picture; measure all stages.")
    for batch in found["batches"]:
        values = {
            "subject": found["subject"],
            "image_size": found["image_size"],
            "batch_size": batch["batch"],
            "seconds_per_image": batch["seconds_per_image"],
            "peak_bytes": batch["peak_memory_bytes"],
            "machine": found["machine"],
        }
        yield load_config(Speed, values)
