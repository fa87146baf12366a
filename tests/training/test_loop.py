"""The loop resumes exactly, survives damage, and refuses to mix runs."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from short_runs import changed, small_shards, stop_after
from unclip.checkpoint import load_tensors
from unclip.errors import TrainingError
from unclip.recipes import RECIPES
from unclip.training import TrainConfig, train
from unclip.training.averages import Averages

Recipe = Callable[[str], TrainConfig]
Run = Callable[[str], Path]
STAGES = sorted(name for name in RECIPES if name.startswith("emoji/"))
SIDES = {"emoji/upsampler_256": 64, "emoji/upsampler_1024": 32}
"""Of upsamplers, whose previews at the recipe's own sizes take seconds."""


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = small_shards(tmp_path_factory.mktemp("small") / "shards", 64, 16)

    def of(name: str) -> TrainConfig:
        if (side := SIDES.get(name)) is None:
            return tiny_recipe(name)
        sizes = {"image_size": side, "low_res_size": side // 4, "crop_size": side // 2}
        return changed(tiny_recipe(name), folder=str(folder), emoji_split=None, source_size=64, **sizes)

    return of


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The folder of a run that nothing happens to; each is made once."""

    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / name.replace("/", "-")
        train(recipe(name), folder)
        return folder

    return run


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def final(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(sorted(folder.glob("checkpoint-*.safetensors"))[-1]).tensors


@pytest.mark.parametrize("name", STAGES)
def test_an_interrupted_run_equals_an_uninterrupted_one(
    name: str, recipe: Recipe, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        position = train(recipe(name), tmp_path, stopped=stop_after(4, patch))
    assert position == (4, 32)
    train(recipe(name), tmp_path)
    assert len(losses(undisturbed(name))) == 8
    assert losses(tmp_path) == losses(undisturbed(name))
    whole, halves = final(undisturbed(name)), final(tmp_path)
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    name: str, recipe: Recipe, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(name)
    update, calls = Averages.update, []

    def killed(self: Averages, *args: object) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("killed")
        update(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Averages, "update", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path)
    monkeypatch.setattr(Averages, "update", update)
    train(config, tmp_path)
    assert losses(tmp_path) == losses(undisturbed(name))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tiny_recipe: Recipe, whole_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_recipe("emoji/decoder")
    shutil.copytree(whole_run("emoji/decoder"), tmp_path / "run")
    expected = losses(tmp_path / "run")
    newest = sorted((tmp_path / "run").glob("checkpoint-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    train(config, tmp_path / "run")
    assert "skipped a damaged checkpoint" in capsys.readouterr().err
    assert losses(tmp_path / "run") == expected


def test_other_settings_are_refused_with_their_names(tiny_recipe: Recipe, whole_run: Run) -> None:
    folder = whole_run("emoji/decoder")
    with pytest.raises(TrainingError, match=r"batch_size: 8 there, 4 asked"):
        train(tiny_recipe("emoji/decoder").replace(batch_size=4), folder)


def test_a_run_writes_what_the_pipeline_loads(whole_run: Run) -> None:
    folder = whole_run("emoji/decoder")
    assert load_tensors(folder / "decoder.safetensors").metadata["kind"] == "decoder"
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["000000064.png"]
    assert len(list(folder.glob("checkpoint-*"))) == 2


def test_a_loss_that_stays_infinite_stops_the_run_and_keeps_the_weights(tiny_recipe: Recipe, tmp_path: Path) -> None:
    config = tiny_recipe("emoji/prior")
    broken = config.replace(
        optimizer=config.optimizer.replace(learning_rate=1e30, warmup_images=0), num_images=8000, checkpoint_images=16
    )
    with pytest.raises(TrainingError, match=r"was not finite for 20 steps in a row \(step 21\).* from step 1, saved"):
        train(broken, tmp_path)
    # The first step was finite; what was saved while the others were skipped is set aside.
    assert [path.name for path in tmp_path.glob("checkpoint-*.safetensors")] == ["checkpoint-00000001.safetensors"]
    assert [path.name for path in sorted(tmp_path.glob("*.aside-1"))][-1] == "checkpoint-00000020.safetensors.aside-1"
    assert load_tensors(tmp_path / "checkpoint-00000001.safetensors").metadata["position"] == "[1, 8]"
