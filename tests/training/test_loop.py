"""The loop resumes exactly, survives damage, and refuses to mix runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unclip.checkpoint import load_tensors
from unclip.errors import TrainingError
from unclip.recipes import RECIPES
from unclip.training import TrainConfig, train

Recipe = Callable[[str], TrainConfig]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def final(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(sorted(folder.glob("checkpoint-*.safetensors"))[-1]).tensors


@pytest.mark.parametrize("name", sorted(name for name in RECIPES if name.startswith("emoji/")))
def test_an_interrupted_run_equals_an_uninterrupted_one(name: str, tiny_recipe: Recipe, tmp_path: Path) -> None:
    config = tiny_recipe(name)
    # A cosine depends on the length of the run, which is what the first half changes here.
    config = config.replace(optimizer=config.optimizer.replace(decay="constant"))
    train(config, tmp_path / "whole")
    train(config.replace(num_images=32), tmp_path / "halves")
    train(config, tmp_path / "halves")
    assert len(losses(tmp_path / "whole")) == 8
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.mark.parametrize("name", sorted(name for name in RECIPES if name.startswith("emoji/")))
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    name: str, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_recipe(name)
    train(config, tmp_path / "whole")
    from unclip.training.averages import Averages

    update, calls = Averages.update, []

    def killed(self: Averages, *args: object) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("killed")
        update(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Averages, "update", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "killed")
    monkeypatch.setattr(Averages, "update", update)
    train(config, tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_recipe("emoji/decoder")
    train(config, tmp_path / "run")
    expected = losses(tmp_path / "run")
    newest = sorted((tmp_path / "run").glob("checkpoint-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    train(config, tmp_path / "run")
    assert "skipped a damaged checkpoint" in capsys.readouterr().err
    assert losses(tmp_path / "run") == expected


def test_other_settings_are_refused_with_their_names(tiny_recipe: Recipe, tmp_path: Path) -> None:
    config = tiny_recipe("emoji/upsampler_256")
    train(config, tmp_path)
    with pytest.raises(TrainingError, match=r"batch_size: 8 there, 4 asked"):
        train(config.replace(batch_size=4), tmp_path)


def test_a_run_writes_what_the_pipeline_loads(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(tiny_recipe("emoji/decoder"), tmp_path)
    assert load_tensors(tmp_path / "decoder.safetensors").metadata["kind"] == "decoder"
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000000064.png"]
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2


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
