"""The smoke variant of every recipe trains, alone and in an empty folder."""

import json
import math
from pathlib import Path

import pytest

from unclip.cli.main import run
from unclip.recipes import RECIPES, SERIES, get_recipe

# The pixel stages of a series are large for a test; test_series trains the same variants.
IN_SERIES = {"emoji/decoder", "emoji/upsampler_256", "emoji/upsampler_1024"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke")


def test_the_others_are_trained_in_a_series() -> None:
    assert set(SERIES["emoji"].shares) > IN_SERIES


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - IN_SERIES))
def test_the_smoke_variant_trains(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert run(["train", name, "--smoke", "--device", "cpu", "--set", "trackers=[]"]) == 0
    config = get_recipe(name, smoke=True)
    out = Path("runs/smoke") / name
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(lines) == config.num_images // config.batch_size
    assert all(math.isfinite(line["loss"]) and line["skipped"] == line["skipped_samples"] == 0 for line in lines)
    assert {line["step"] for line in lines if "held_out_loss" in line} == steps_with_figures(name)
    assert len(list(out.glob(f"{config.task.kind}*.safetensors"))) == 1


def steps_with_figures(name: str) -> set[int]:
    """The large recipes hold samples out; those of the emoji set have a split of their own."""
    return set() if name.startswith("emoji/") else {2, 4}
