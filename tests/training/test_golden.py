"""The losses of a tiny run of each stage are those that were checked in; a refactor must not change them.

A change that means to copies the new numbers from the failure into golden/losses.json, and its
commit says why they moved.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from short_runs import changed, steps

from unclip.recipes import RECIPES
from unclip.training import TrainConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
# Float32 sums in another order, on other processors, drift by this much over eight steps.
TOLERANCE = 2e-3
NUM_STEPS = 4


@pytest.mark.parametrize("name", sorted(name for name in RECIPES if name.startswith("emoji/")))
def test_losses_are_the_ones_checked_in(name: str, whole_run: Callable[[str], Path]) -> None:
    losses = [json.loads(line)["loss"] for line in (whole_run(name) / "log.jsonl").read_text().splitlines()]
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=TOLERANCE)


@pytest.mark.parametrize("change", [{"micro_batch_size": 2}, {"activation_checkpointing": True}], ids=str)
@pytest.mark.parametrize("name", ["emoji/clip", "emoji/decoder", "emoji/upsampler_256", "emoji/prior"])
def test_accumulation_and_checkpointing_leave_them_unchanged(
    name: str, change: dict[str, int], tiny_recipe: Callable[[str], TrainConfig]
) -> None:
    """Dropout is off in all but the prior, whose own numbers without it are what they are compared with."""
    config = tiny_recipe(name)
    if name == "emoji/prior":
        config = changed(config, dropout=0.0)
        expected = steps(config, NUM_STEPS).losses
    else:
        expected = json.loads(GOLDEN.read_text())[name][:NUM_STEPS]
    assert steps(config.replace(**change), NUM_STEPS).losses == pytest.approx(expected, rel=TOLERANCE)
