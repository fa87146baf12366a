"""`unclip compare`: evaluations and timings that were written to files, on one page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]


@pytest.mark.usefixtures("quick_peak")
def test_the_page_has_the_figures_of_all_files(
    unclip: Program, tiny_folder: Path, evaluation: Path, tmp_path: Path
) -> None:
    timed = unclip(
        "bench", "sample", "--model", tiny_folder, "--steps", "1", "--batch", "2", "--device", "cpu",
        "--dtype", "float32", "--repeats", "1", "--json",
    )  # fmt: skip
    (tmp_path / "bench.jsonl").write_text(timed.out * 2)
    done = unclip("compare", evaluation, tmp_path / "bench.jsonl", "-o", tmp_path / "page")
    assert (done.code, done.out) == (0, f"{tmp_path}/page/comparison.html\n")
    page = (tmp_path / "page/comparison.md").read_text()
    assert "| tiny: guidance 14.0 | 14 | 31 |" in page
    assert "| tiny: guidance 12.5 | 12.5 | 30.25 |" in page
    for batch in json.loads(timed.out)["batches"]:
        assert page.count(f"| 32 px | {batch['batch']} | {batch['seconds_per_image']:.4g} |") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is nothing to compare"),
        ("[1]", "holds no evaluation and no timing"),
        ("{}", "holds no evaluation"),
        ("no json", "cannot be read as JSON"),
        ('{"points": []}', "subject"),
        ('{"command": "bench sample", "subject": "karlo", "image_size": null}', "timings of karlo without a picture"),
    ],
)
def test_other_files_are_one_line(unclip: Program, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.json").write_text(content)
    done = unclip("compare", tmp_path / "results.json", "-o", tmp_path / "page")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert not (tmp_path / "page").exists()
