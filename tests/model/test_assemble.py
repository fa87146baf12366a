"""Stages joined to a model: from runs, files and models; what does not fit is refused and nothing is written."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from unclip import UnClip
from unclip.checkpoint import load_tensors, save_module
from unclip.errors import CheckpointError, InputError
from unclip.model import assemble, open_sources
from unclip.models import Prior, PriorConfig


@pytest.fixture
def runs(tiny_folder: Path, tmp_path: Path) -> dict[str, Path]:
    """A folder for each stage of the tiny model, as runs leave them: the stage, and the settings of the run."""
    folders = {}
    for file in sorted(tiny_folder.glob("*.safetensors")):
        kind = load_tensors(file).metadata.get("kind", "")
        if kind != file.stem:
            continue
        folder = folders[kind] = tmp_path / "runs" / kind
        folder.mkdir(parents=True)
        shutil.copy(file, folder)
        task = {"kind": kind.partition("_")[0], "clip": str(tmp_path / "runs" / "clip"), "text_drop_prob": 0.1}
        (folder / "config.json").write_text(json.dumps({"name": f"mine/{kind}", "task": task}))
    shutil.copy(tiny_folder / "tokenizer.json", folders["clip"])
    return folders


def upsamplers(runs: dict[str, Path]) -> list[Path]:
    return [folder for name, folder in runs.items() if name.startswith("upsampler")]


def test_runs_become_a_model_of_the_same_weights_that_draws(runs: dict[str, Path], tmp_path: Path) -> None:
    done = assemble(
        tmp_path / "mine", prior=runs["prior"], decoder=runs["decoder"], upsamplers=upsamplers(runs)
    )  # fmt: skip
    assert done.notes == [f"the CLIP is {runs['clip']}, which prior and decoder were trained with"]
    for name, folder in runs.items():
        ours, theirs = (load_tensors(path / f"{name}.safetensors").tensors for path in (tmp_path / "mine", folder))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    result = UnClip.load(tmp_path / "mine", "cpu").text_to_image("a cat", seed=0, num_steps=2)
    assert len(result.images) == 1


def test_a_file_and_a_model_give_a_stage_with_its_settings(
    runs: dict[str, Path], tiny_folder: Path, tmp_path: Path
) -> None:
    renamed = runs["prior"].rename(runs["prior"].with_name("first")) / "prior.safetensors"
    averaged = renamed.rename(renamed.with_name("averaged.safetensors"))
    done = assemble(tmp_path / "mine", clip=tiny_folder, prior=averaged, decoder=tiny_folder)
    stages = open_sources([tiny_folder]).source.defaults.stages
    assert done.source.defaults.stages["decoder"] == stages["decoder"]
    assert done.source.defaults.stages["prior"].guidance_scale == 2.5
    assert any("was trained with the CLIP" in note for note in done.notes)


def test_a_stage_that_never_lost_its_text_is_not_guided(runs: dict[str, Path], tmp_path: Path) -> None:
    settings = runs["prior"] / "config.json"
    settings.write_text(settings.read_text().replace("0.1", "0.0"))
    done = assemble(tmp_path / "mine", prior=runs["prior"])
    assert done.source.defaults.stages["prior"].guidance_scale == 1.0


def test_what_cannot_be_joined_is_refused_and_leaves_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no prior; give the folder of its run"):
        assemble(tmp_path / "out", prior=runs["decoder"])
    with pytest.raises(InputError, match="nothing to join"):
        assemble(tmp_path / "out")
    twice = upsamplers(runs)[:1] * 2
    with pytest.raises(InputError, match="is there twice"):
        assemble(tmp_path / "out", upsamplers=twice)
    metadata = load_tensors(runs["prior"] / "prior.safetensors").metadata
    other = PriorConfig(**json.loads(metadata["config"])).replace(embedding_dim=24, text_embedding_dim=16, text_dim=64)
    save_module(runs["prior"] / "prior.safetensors", Prior(other), other, "prior")
    with pytest.raises(CheckpointError, match="disagree on the image embedding"):
        assemble(tmp_path / "out", prior=runs["prior"], decoder=runs["decoder"])
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="exists already"):
        assemble(tmp_path / "full", decoder=runs["decoder"])
