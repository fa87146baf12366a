"""The smoke variant of every kind of recipe trains, alone and in an empty folder."""

import json
import math
import re
from pathlib import Path

import pytest

from unclip.cli.main import run
from unclip.config import differences
from unclip.recipes import RECIPES, SERIES, get_recipe

# The pixel stages of a series are large for a test; test_series trains the same variants.
IN_SERIES = {"emoji/autoencoder", "emoji/decoder", "emoji/upsampler_256", "emoji/upsampler_1024"}
# Each differs from the one that trains in numbers of the optimiser, dropout, weighting and the like, all of which
# tests/training tries one by one; test_recipes has every setting of every variant.
LIKE = {
    "cc3m/decoder": "laion/decoder",
    "cc3m/upsampler_256": "laion/upsampler_256",
    "karlo/decoder": "laion/decoder",
    "karlo/prior": "cc3m/prior",
    "laion/prior": "cc3m/prior",
    "laion/upsampler_1024": "paper/upsampler_1024",
    "paper/prior": "cc3m/prior",
    "paper/upsampler_256": "karlo/upsampler_256",
}
DIFFERENCES = (
    "name|micro_batch_size|activation_checkpointing|strategy|optimizer\\..*|task\\.(weighting|degradation|max_augmentation)|"
    "task\\.model\\.(dropout|conditioning|noise_conditioning|patch_size|prediction_type|schedule|text_dim)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke")


def test_the_others_are_trained_in_a_series() -> None:
    assert set(SERIES["emoji"].shares) > IN_SERIES


@pytest.mark.parametrize(("name", "other"), LIKE.items())
def test_a_variant_that_is_not_trained_is_like_one_that_is(name: str, other: str) -> None:
    one, two = (get_recipe(recipe, smoke=True).model_dump(mode="json") for recipe in (name, other))
    changed = [line for line in differences(one, two) if not re.match(DIFFERENCES, line)]
    assert changed == []


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - IN_SERIES - LIKE.keys()))
def test_the_smoke_variant_trains(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert run(["train", name, "--smoke", "--device", "cpu", "--set", "trackers=[]"]) == 0
    config = get_recipe(name, smoke=True)
    out = Path("runs/smoke") / name
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(lines) == config.num_images // config.batch_size
    assert all(math.isfinite(line["loss"]) and line["skipped"] == line["skipped_samples"] == 0 for line in lines)
    assert {line["step"] for line in lines if "held_out_loss" in line} == steps_with_figures(name)
    assert len(list(out.glob(f"{config.stage}*.safetensors"))) == 1


def steps_with_figures(name: str) -> set[int]:
    """The large recipes hold samples out; those of the emoji set have a split of their own."""
    return set() if name.startswith("emoji/") else {2, 4}
