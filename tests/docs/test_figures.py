"""The tables of speed in docs/benchmarks.md hold the figures of benchmarks/results, as they were measured."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def table(title: str) -> list[list[str]]:
    """The cells of the rows below a heading row that starts with `title`."""
    rows = (
        (ROOT / "docs" / "benchmarks.md").read_text().partition(f"| {title} |")[2].partition("\n\n")[0].splitlines()[2:]
    )
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_rows_of_models() -> None:
    rows = json.loads((RESULTS / "rows.json").read_text())["rows"].values()
    measured = [[cell.replace(" (planned)", "") for cell in list(row["row"].values())[1:]] for row in rows]
    shown = [cells[1:] for cells in table("model")]
    assert len(shown) == 5
    assert all(cells in measured for cells in shown)


@pytest.mark.parametrize("page", ["benchmarks/emoji_judge/README.md", "src/unclip/weights/emoji/MODEL_CARD.md"])
def test_table_of_the_judge(page: str) -> None:
    judge = [ROOT / "benchmarks/emoji_judge/judge.py", "--show", RESULTS / "emoji_judge_shipped.json"]
    shown = subprocess.run([sys.executable, *judge], capture_output=True, text=True, check=True).stdout
    assert shown in (ROOT / page).read_text()


def test_rows_of_peers() -> None:
    jobs = json.loads((RESULTS / "peers.json").read_text())["jobs"].values()
    measured = [
        [f"{median(job['theirs']['seconds']):.3g} s", ours(job["float32"]), ours(job["default"])] for job in jobs
    ]
    shown = [cells[1:] for cells in table("one unit of work, same parameters")]
    assert len(shown) == 16
    assert all(cells in measured for cells in shown)


def ours(side: dict[str, Any]) -> str:
    """Seconds, and theirs to ours by round: median, least and most."""
    ratio = side["ratio"]
    seconds = f"{median(side['seconds']):.3g} s"
    return f"{seconds}, {ratio['median']:.3g} x ({ratio['low']:.3g} to {ratio['high']:.3g})"
