"""Nothing of a run is lost: what was just written stays, what cannot be used is set aside, weights are finite."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from short_runs import ALONE, changed, stop_after
from unclip.checkpoint import load_tensors
from unclip.data import emoji_items, write_shards
from unclip.errors import TrainingError
from unclip.training import Batch, TrainConfig, make_task, train
from unclip.training.feed import Feed
from unclip.training.tasks import prior as prior_task

Recipe = Callable[[str], TrainConfig]


def names(folder: Path, pattern: str = "*.safetensors*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def damage(path: Path) -> bytes:
    content = path.read_bytes()[:-100]
    path.write_bytes(content)
    return content


def test_what_a_resumed_run_saves_stays_and_damaged_files_are_set_aside(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prior.replace(checkpoint_images=8, keep_checkpoints=2)
    train(config.replace(num_images=80), tmp_path / "run", device="cpu")
    contents = {path.name: damage(path) for path in (tmp_path / "run").glob("checkpoint-*")}
    assert sorted(contents) == ["checkpoint-00000009.safetensors", "checkpoint-00000010.safetensors"]
    with monkeypatch.context() as patch:
        train(config.replace(num_images=80), tmp_path / "run", device="cpu", stopped=stop_after(3, patch))
    err = capsys.readouterr().err
    assert "begins anew: no checkpoint is whole" in err
    assert "saved at 24 images" in err
    assert load_tensors(tmp_path / "run" / "checkpoint-00000003.safetensors").metadata["position"] == "[3, 24]"
    for name, content in contents.items():
        assert (tmp_path / "run" / f"{name}.aside-1").read_bytes() == content
    train(config.replace(num_images=80), tmp_path / "run", device="cpu")
    train(config.replace(num_images=80), tmp_path / "whole", device="cpu")
    ours, theirs = (load_tensors(tmp_path / run / "checkpoint-00000010.safetensors") for run in ("run", "whole"))
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert [name for name in names(tmp_path / "run", "checkpoint-*") if "aside" not in name] == sorted(contents)


def test_averages_and_the_best_of_later_steps_are_set_aside(prior: TrainConfig, tmp_path: Path) -> None:
    config = changed(prior, ema="power", validation_share=0.4, validation_images=8, checkpoint_images=8)
    train(config, tmp_path, device="cpu")
    assert names(tmp_path / "averages")[-1] == "000000000024-0.1.safetensors"
    assert load_tensors(tmp_path / "best.safetensors").metadata["position"] == "[3, 24]"
    damage(tmp_path / "checkpoint-00000003.safetensors")
    train(config.replace(num_images=16), tmp_path, device="cpu")
    assert names(tmp_path / "averages")[-2:] == [
        "000000000024-0.05.safetensors.aside-1", "000000000024-0.1.safetensors.aside-1",
    ]  # fmt: skip
    assert names(tmp_path, "*aside*") == ["best.safetensors.aside-1", "checkpoint-00000003.safetensors.aside-1"]


def test_files_of_other_names_are_left_alone(prior: TrainConfig, tmp_path: Path) -> None:
    for name in ("checkpoint-latest.safetensors", "checkpoint-00000001 copy.safetensors"):
        (tmp_path / name).write_text("mine")
    train(prior.replace(checkpoint_images=8, keep_checkpoints=1), tmp_path, device="cpu")
    assert (tmp_path / "checkpoint-latest.safetensors").read_text() == "mine"
    assert names(tmp_path, "checkpoint-*") == [
        "checkpoint-00000001 copy.safetensors", "checkpoint-00000003.safetensors", "checkpoint-latest.safetensors",
    ]  # fmt: skip


def test_averages_of_another_kind_cannot_be_gone_on_with(prior: TrainConfig, tmp_path: Path) -> None:
    train(prior, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match=r"has other averages \(ema: 'classic' there, 'power' asked"):
        train(prior.replace(ema="power", num_images=48), tmp_path, device="cpu", allow_changes=True)


def test_steps_that_were_all_skipped_are_an_error_and_leave_no_weights(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embeddings of the data are not numbers."""

    def not_a_number(task: prior_task.PriorTask, batch: Batch) -> torch.Tensor:
        return torch.full((len(batch), task.task.model.embedding_dim), torch.nan)

    monkeypatch.setattr(prior_task.PriorTask, "_image_embedding", not_a_number)
    with pytest.raises(TrainingError, match=r"none of the 3 steps had a finite gradient; .* nothing was saved"):
        train(prior.replace(checkpoint_images=8), tmp_path, device="cpu")
    assert names(tmp_path) == []


def test_weights_that_are_not_finite_are_never_written(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(prior, tmp_path, device="cpu")
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    build = prior_task.PriorTask.build

    def spoil(task: prior_task.PriorTask) -> nn.Module:
        def fill(network: nn.Module, keys: object) -> None:
            network.get_buffer("embedding_std").fill_(torch.inf)

        network = build(task)
        network.register_load_state_dict_post_hook(fill)
        return network

    monkeypatch.setattr(prior_task.PriorTask, "build", spoil)
    with pytest.raises(TrainingError, match=r"embedding_std is not finite at step 4, so nothing was saved"):
        train(prior.replace(num_images=32), tmp_path, device="cpu")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == kept


@pytest.mark.parametrize("stage", ["prior", "decoder"])
@pytest.mark.parametrize("count", [1, 2])
def test_one_picture_and_two_equal_ones_train_to_finite_weights(
    stage: str, count: int, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The check that everybody does first: no deviation to divide by, in any coordinate."""
    [item] = emoji_items("train")[:1]
    write_shards(tmp_path / "shards", [replace(item, key=f"copy{n}") for n in range(count)], 128, "same")
    config = changed(tiny_recipe(f"emoji/{stage}"), folder=str(tmp_path / "shards"), emoji_split=None, trackers=())
    config = config.replace(num_images=16, preview_images=64)
    train(config, tmp_path / "run", device="cpu")
    tensors = load_tensors(tmp_path / "run" / f"{stage}.safetensors").tensors
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    torch.testing.assert_close(tensors["embedding_std"], torch.ones_like(tensors["embedding_std"]))
    task = make_task(config, torch.device("cpu"))
    assert len(Feed(task.samples, config, ALONE).trained_on) == count
