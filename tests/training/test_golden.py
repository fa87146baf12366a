"""The losses of a tiny run of each stage are those that were checked in; a refactor must not change them.

A change that means to copies the new numbers from the failure into golden/losses.json, and its
commit says why they moved.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unclip.recipes import RECIPES
from unclip.training import TrainConfig, train

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
# Float32 sums in another order, on other processors, drift by this much over eight steps.
TOLERANCE = 2e-3


@pytest.mark.parametrize("name", sorted(name for name in RECIPES if name.startswith("emoji/")))
def test_losses_are_the_ones_checked_in(name: str, tiny_recipe: Callable[[str], TrainConfig], tmp_path: Path) -> None:
    train(tiny_recipe(name), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=TOLERANCE)
