"""What a path is told to be: each known kind goes to its importer, and the rest is named by what it looks like."""

import json
from pathlib import Path

import pytest
import torch
from dalle2_golden import CASES, group
from safetensors.torch import save_file

from unclip.errors import CheckpointError, ConfigError
from unclip.interop import import_foreign


def dalle2_prior(path: Path) -> Path:
    """A prior as DALLE2-pytorch's trainer saves it, with its config beside it."""
    torch.save({"model": dict(group("prior", "weights")), "version": "1.15.6"}, path)
    path.with_name(f"{path.stem}_config.json").write_text(json.dumps(CASES["prior"]["config"]))
    return path


def test_a_checkpoint_of_dalle2_pytorch_alone_or_in_a_folder(tmp_path: Path) -> None:
    path = dalle2_prior(tmp_path / "prior.pth")
    for given in (path, tmp_path):
        (model,) = import_foreign([given])
        assert model.description == "a prior of DALLE2-pytorch"
        assert model.stages.keys() == {"prior"}


@pytest.mark.parametrize(
    ("names", "looks"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "a Stable Diffusion checkpoint"),
        (["unet.lora_A.weight"], "LoRA weights, which come on top of a model"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a part of a diffusers folder"),
        (["double_blocks.0.img_attn.qkv.weight"], "a FLUX transformer"),
    ],
)
def test_other_weights_are_named(tmp_path: Path, names: list[str], looks: str) -> None:
    save_file({name: torch.zeros(2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=rf"x\.safetensors looks like {looks}"):
        import_foreign([tmp_path / "x.safetensors"])


def test_unknown_tensors_are_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=r"x\.safetensors holds 2 tensors that match no known model \('a', …\); known are"
    ):
        import_foreign([tmp_path])


def test_other_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is an empty folder; known are an unCLIP or Kandinsky"):
        import_foreign([tmp_path])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"has 1 files \(notes\.txt\), none of them weights"):
        import_foreign([tmp_path])
    (tmp_path / "decoder").mkdir()
    with pytest.raises(CheckpointError, match=r"has neither weights nor a model_index\.json \(decoder, notes\.txt, …"):
        import_foreign([tmp_path])
    (tmp_path / "config.json").write_text('{"_class_name": "PriorTransformer"}')
    with pytest.raises(CheckpointError, match=r"looks like a part \(PriorTransformer\) of a diffusers folder"):
        import_foreign([tmp_path])
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(ConfigError, match=r"is of \['BertModel'\], no CLIP that reads texts"):
        import_foreign([tmp_path])
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(CheckpointError, match="looks like a StableDiffusionPipeline of diffusers"):
        import_foreign([tmp_path])


def test_what_is_no_file_of_weights_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_text("<!doctype html>")
    with pytest.raises(CheckpointError, match=r"x\.ckpt is a web page"):
        import_foreign([tmp_path / "x.ckpt"])
