"""CLIP weights as transformers spells them come in and go out unchanged, and give what their networks give."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from clip_networks import HUGE, SMALL, equal, load, prompts, reference, refused
from networks import close, fill
from unclip.checkpoint import LazyTensor, write_tensors
from unclip.clip import ClipConfig, clip_preset
from unclip.clip.model import normalize_pixels
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.interop.clip import clip_from_clip_model, clip_from_openai, clip_from_transformers, clip_to_transformers
from unclip.interop.sources import Component


def towers(config: ClipConfig, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    shared = {"projection_dim": config.embedding_dim, "hidden_act": config.activation}
    text = transformers.CLIPTextConfig(
        hidden_size=config.text_width,
        intermediate_size=config.text_ff_dim or 4 * config.text_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.context_length,
        bos_token_id=config.end_token - 1,
        eos_token_id=config.end_token,
        **shared,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=config.vision_ff_dim or 4 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        **shared,
    )
    both = transformers.CLIPTextModelWithProjection(text), transformers.CLIPVisionModelWithProjection(vision)
    fill(*both)
    return both[0].to(dtype), both[1].to(dtype)


def component(model: nn.Module) -> Component:
    tensors = {name: LazyTensor.of(value) for name, value in model.state_dict().items()}
    return Component(json.loads(model.config.to_json_string()), tensors)


def position_ids(number: int) -> dict[str, LazyTensor]:
    return {"text_model.embeddings.position_ids": LazyTensor.of(torch.arange(number)[None])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("config", [SMALL, HUGE, HUGE.replace(text_ff_dim=37)])
def test_transformers_to_ours_and_back_is_the_same(config: ClipConfig, dtype: torch.dtype, tmp_path: Path) -> None:
    text, vision = (component(model) for model in towers(config, dtype))
    old = text._replace(tensors={**text.tensors, **position_ids(config.context_length)})
    weights, dropped = clip_from_transformers(old, vision, "folder")
    assert (weights.config, dropped.keys()) == (config, position_ids(1).keys())
    back, left = clip_to_transformers(weights)
    assert (back.keys(), left.keys()) == ({"text_encoder", "image_encoder"}, {"logit_scale"})
    equal(back["text_encoder"].tensors, text.tensors)
    equal(back["image_encoder"].tensors, vision.tensors)


@pytest.mark.parametrize("config", [SMALL, HUGE.replace(text_ff_dim=37)])
@torch.no_grad()
def test_transformers_reads_what_goes_out(config: ClipConfig, tmp_path: Path) -> None:
    weights, _ = clip_from_openai(reference(SMALL).state(), "file")
    if config != SMALL:
        weights, _ = clip_from_transformers(*(component(model) for model in towers(config)), "folder")
    for name, part in clip_to_transformers(weights)[0].items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(part.config))
        write_tensors(tmp_path / name / "model.safetensors", part.tensors, {"format": "pt"})
    text, told = transformers.CLIPTextModelWithProjection.from_pretrained(
        tmp_path / "text_encoder", output_loading_info=True
    )
    vision, told_too = transformers.CLIPVisionModelWithProjection.from_pretrained(
        tmp_path / "image_encoder", output_loading_info=True
    )
    assert not any([*told.values(), *told_too.values()])
    ours, ids = load(weights), prompts(config)
    images = torch.rand(3, 3, config.image_size, config.image_size) * 2 - 1
    features = ours.encode_tokens(ids)
    close(features.embedding, text(ids).text_embeds)
    close(features.hidden, text(ids).last_hidden_state)
    close(ours.encode_pixels(images), vision(normalize_pixels(images)).image_embeds)


@torch.no_grad()
def test_a_text_tower_alone() -> None:
    theirs, _ = towers(HUGE)
    weights, dropped = clip_from_transformers(component(theirs), None, "folder")
    assert isinstance(weights.config, ClipConfig)
    assert (weights.config.vision_layers, weights.config.image_size, dropped) == (0, 0, {})
    ours, ids = load(weights), prompts(HUGE)
    close(ours.encode_tokens(ids).embedding, theirs(ids).text_embeds)
    torch.testing.assert_close(ours.logit_scale.exp(), torch.tensor(1 / 0.07))
    back, _ = clip_to_transformers(weights)
    assert back.keys() == {"text_encoder"}
    equal(back["text_encoder"].tensors, component(theirs).tensors)
    refused(InputError, "^this CLIP has no vision tower", lambda: ours.encode_pixels(torch.zeros(1, 3, 28, 28)))


def test_a_whole_clip_model_with_sections_of_old_configs() -> None:
    text, vision = towers(HUGE)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text.config.to_dict(), vision_config=vision.config.to_dict(), projection_dim=20
        )
    )
    fill(model)
    whole = component(model)
    sections = {
        name: {key: value for key, value in whole.config[name].items() if key not in ("hidden_size", "projection_dim")}
        for name in ("text_config", "vision_config")
    }
    old = {"projection_dim": 20} | sections
    old |= {"text_config_dict": {"hidden_size": 32}, "vision_config_dict": {"hidden_size": 52, "projection_dim": 1}}
    for config in (whole.config, old):
        weights, dropped = clip_from_clip_model(whole._replace(config=config), "folder")
        assert (weights.config, dropped) == (HUGE, {})
    assert torch.equal(weights.tensors["logit_scale"].read(), model.logit_scale)


def test_absent_options_are_those_of_vit_b_32() -> None:
    text, vision = (
        transformers.CLIPTextModelWithProjection,
        transformers.CLIPVisionModelWithProjection,
    )
    with torch.device("meta"):
        parts = [text(transformers.CLIPTextConfig()), vision(transformers.CLIPVisionConfig())]
    tensors = [component(part).tensors for part in parts]
    weights, _ = clip_from_transformers(Component({}, tensors[0]), Component({}, tensors[1]), "folder")
    assert weights.config == clip_preset("vit-b-32").replace(resize="crop")


@pytest.mark.parametrize(
    ("tower", "change", "error", "message"),
    [
        ("text", {"hidden_size": 64}, CheckpointError, r"^folder: tensor '.*' has shape .* does not make"),
        ("text", {"num_hidden_layers": 1}, CheckpointError, r"layers\.1\..* is left over"),
        ("vision", {"num_hidden_layers": 4}, CheckpointError, r"vision_model\.encoder\.layers\.3\..* is missing"),
        ("vision", {"patch_size": 7}, CheckpointError, r"has shape \(5, 52\), which does not make the \(17, 52\)"),
        ("vision", {"projection_dim": 24}, ConfigError, r"projection_dim is 20 for texts and 24 for pictures"),
        ("vision", {"hidden_act": "quick_gelu"}, ConfigError, r"hidden_act is 'gelu' for texts and 'quick_gelu'"),
        ("text", {"eos_token_id": 7}, ConfigError, r"eos_token_id=7 is not supported; texts end with id 299"),
        ("text", {"layer_norm_eps": 1e-6}, ConfigError, r"text tower\.layer_norm_eps=1e-06 is not supported"),
        ("vision", {"num_channels": 4}, ConfigError, r"vision tower\.num_channels=4 is not supported"),
        ("text", {"vocab_size": "many"}, ConfigError, r"text tower: vocab_size=.many. is not a whole number"),
    ],
)
def test_contradictions_are_refused(tower: str, change: dict[str, Any], error: type[Exception], message: str) -> None:
    parts = dict(zip(("text", "vision"), (component(model) for model in towers(HUGE)), strict=True))
    parts[tower] = parts[tower]._replace(config={**parts[tower].config, **change})
    refused(error, message, lambda: clip_from_transformers(parts["text"], parts["vision"], "folder"))


def test_old_end_tokens_are_the_last_of_the_vocabulary() -> None:
    text, _ = (component(model) for model in towers(HUGE))
    old = text._replace(config={**text.config, "eos_token_id": 2, "bos_token_id": 0})
    weights, _ = clip_from_transformers(old, None, "folder")
    exported = clip_to_transformers(weights)[0]["text_encoder"].config
    assert (exported["bos_token_id"], exported["eos_token_id"]) == (298, 299)


def test_a_text_model_without_projection_is_refused() -> None:
    text, _ = (component(model) for model in towers(HUGE))
    tensors = {name: value for name, value in text.tensors.items() if name != "text_projection.weight"}
    part = text._replace(tensors=tensors)
    refused(CheckpointError, r"'text_projection\.weight' is missing", lambda: clip_from_transformers(part, None, "f"))
