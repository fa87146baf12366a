"""CLIP in the files and folders that its makers publish, with its tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from foreign_files import clip_folder, openai_clip
from networks import close, lazy, read, same
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection

from unclip.clip import Clip, ClipConfig, TextImageEncoder, clip_preset
from unclip.errors import CheckpointError, ConfigError
from unclip.interop import ForeignModel
from unclip.interop.clip import openai_names, transformers_names
from unclip.interop.clip_files import import_clip
from unclip.interop.rules import to_theirs

OPENAI = clip_preset("tiny").replace(
    vision_width=64, vision_heads=1, text_heads=1, vocab_size=49408, context_length=9, resize="crop"
)
OPTIONS = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 9, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def encoder(found: ForeignModel) -> TextImageEncoder:
    """The CLIP that was imported, ready for use."""
    weights, tokenizer = found.stages["clip"], found.tokenizers["clip"]
    assert isinstance(weights.config, ClipConfig)
    clip = Clip(weights.config).eval()
    clip.load_state_dict(read(weights.tensors))
    return TextImageEncoder(clip, tokenizer)


def test_openais_archive(tmp_path: Path) -> None:
    clip = openai_clip(OPENAI, tmp_path / "ViT-B-32.pt")
    found = import_clip(tmp_path / "ViT-B-32.pt")
    assert (found.description, found.stages["clip"].config) == ("a CLIP of OpenAI's", OPENAI)
    same(read(found.stages["clip"].tensors), clip.state_dict())
    assert found.dropped.keys() == {f"clip: {name}" for name in ("input_resolution", "context_length", "vocab_size")}
    assert encoder(found).encode_text(["a red apple"]).mask.sum() == 5


@torch.no_grad()
def test_a_whole_model_of_transformers(tmp_path: Path) -> None:
    theirs = clip_folder(tmp_path)
    found = import_clip(tmp_path)
    state = read(to_theirs(found.stages["clip"].tensors, transformers_names(found.stages["clip"].config), ""))
    same(state, theirs.state_dict())
    ours = encoder(found)
    batch = ours.tokenizer.encode(["a red apple"], 11)
    expected = theirs.get_text_features(batch.ids).pooler_output
    close(ours.encode_text(["a red apple"]).embedding, expected)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_center_crop": False}))
    assert [encoder(found).clip.config.resize, encoder(import_clip(tmp_path)).clip.config.resize] == ["crop", "squash"]


def test_a_text_tower_of_transformers(tmp_path: Path) -> None:
    whole = clip_folder(tmp_path)
    theirs = CLIPTextModelWithProjection(whole.config.text_config)
    theirs.save_pretrained(tmp_path)
    found = import_clip(tmp_path)
    assert encoder(found).clip.vision is None
    state = to_theirs(found.stages["clip"].tensors, transformers_names(found.stages["clip"].config), "", constants={
        "logit_scale": found.stages["clip"].tensors["logit_scale"].read()})  # fmt: skip
    same(read(state), theirs.state_dict())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["CLIPVisionModelWithProjection"]}))
    with pytest.raises(
        ConfigError, match=r"config\.json is of \['CLIPVisionModelWithProjection'\], no CLIP that reads"
    ):
        import_clip(tmp_path)


def test_open_clip(tmp_path: Path) -> None:
    clip = Clip(OPENAI.replace(activation="gelu"))
    state = read(to_theirs(lazy(clip.state_dict()), openai_names(clip.config), ""))
    file = tmp_path / "open_clip_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    with pytest.raises(CheckpointError, match=r"its shapes do not show .*; put its open_clip_config\.json beside"):
        import_clip(file)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPTIONS}))
    for path in (file, tmp_path):
        found = import_clip(path)
        assert (found.description, found.stages["clip"].config) == ("a CLIP of open_clip's", clip.config)
        same(read(found.stages["clip"].tensors), clip.state_dict())
        assert encoder(found).tokenizer.vocab_size == 49408


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json cannot be read \(No such file"):
        import_clip(tmp_path)
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"other\.safetensors holds no CLIP that reads texts: no tensor is called"
    ):
        import_clip(tmp_path / "other.safetensors")
