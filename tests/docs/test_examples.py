"""Every script in examples/ runs and writes pictures; each is short."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from warm import python

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES = 60


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_draws(script: Path, tmp_path: Path) -> None:
    command = [*python(), str(script), str(tmp_path)]
    run = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pictures = [Image.open(path) for path in tmp_path.glob("*.png")]
    assert pictures
    assert all(len(set(picture.convert("L").get_flattened_data())) > 1 for picture in pictures)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_is_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= MAX_LINES
