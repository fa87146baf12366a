"""CLIP weights of three spellings come in and give what their networks give; those of transformers go out unchanged."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from networks import close, fill
from unclip.checkpoint import LazyTensor, NetworkWeights, load_weights, write_tensors
from unclip.clip import Clip, ClipConfig, clip_preset
from unclip.clip.model import normalize_pixels
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.interop._clip_names import openai_names
from unclip.interop.clip import (
    clip_from_clip_model,
    clip_from_open_clip,
    clip_from_openai,
    clip_from_transformers,
    clip_to_transformers,
)
from unclip.interop.rules import to_theirs
from unclip.interop.sources import Component


class QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, ff_dim: int, act: nn.Module) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, ff_dim)), ("act", act), ("c_proj", nn.Linear(ff_dim, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, ff_dim: int, layers: int, act: nn.Module) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, ff_dim, act) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, config: ClipConfig, act: nn.Module) -> None:
        super().__init__()
        width, size = config.vision_width, config.patch_size
        self.conv1 = nn.Conv2d(3, width, size, size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((config.image_size // size) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        ff_dim = config.vision_ff_dim or 4 * width
        self.transformer = Transformer(width, config.vision_heads, ff_dim, config.vision_layers, act)
        self.proj = nn.Parameter(torch.randn(width, config.embedding_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenAI(nn.Module):
    """CLIP as OpenAI published it: arXiv 2103.00020, with their names."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        act = QuickGelu() if config.activation == "quick_gelu" else nn.GELU()
        width = config.text_width
        self.visual = Visual(config, act)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, width))
        ff_dim = config.text_ff_dim or 4 * width
        self.transformer = Transformer(width, config.text_heads, ff_dim, config.text_layers, act)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, config.embedding_dim))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]], mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=-1)] @ self.text_projection

    def state(self) -> dict[str, LazyTensor]:
        return {name: LazyTensor.of(value) for name, value in self.state_dict().items()}


SMALL = clip_preset("tiny").replace(
    vision_width=128, vision_heads=2, text_width=64, text_heads=1, embedding_dim=24, resize="crop"
)
HUGE = ClipConfig(
    embedding_dim=20, image_size=28, patch_size=14, vision_width=52, vision_layers=3, vision_heads=2, vision_ff_dim=256,
    text_width=32, text_layers=2, text_heads=4, vocab_size=300, context_length=12, activation="gelu", resize="crop",
)  # fmt: skip
HUGE_OPTIONS = {
    "model_cfg": {
        "embed_dim": 20,
        "vision_cfg": {
            "image_size": 28, "layers": 3, "width": 52, "head_width": 26, "mlp_ratio": 4.9231, "patch_size": 14,
        },
        "text_cfg": {"context_length": 12, "vocab_size": 300, "width": 32, "heads": 4, "layers": 2},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}  # fmt: skip


def reference(config: ClipConfig) -> OpenAI:
    model = OpenAI(config)
    fill(model)
    return model


def load(weights: NetworkWeights) -> Clip:
    assert isinstance(weights.config, ClipConfig)
    clip = Clip(weights.config).eval()
    load_weights(clip, {name: value.read() for name, value in weights.tensors.items()}, weights.source)
    return clip


def prompts(config: ClipConfig) -> Tensor:
    ids = torch.randint(1, config.end_token - 1, (4, config.context_length))
    for row, end in enumerate((1, 3, 7, config.context_length - 1)):
        ids[row, end], ids[row, end + 1 :] = config.end_token, 0
    return ids


@torch.no_grad()
def same_outputs(weights: NetworkWeights, theirs: OpenAI) -> None:
    ours = load(weights)
    size, ids = ours.config.image_size, prompts(ours.config)
    images = torch.rand(3, 3, size, size) * 2 - 1
    close(ours.encode_pixels(images), theirs.visual(normalize_pixels(images)))
    close(ours.encode_tokens(ids).embedding, theirs.encode_text(ids))
    assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_openais_state_dict() -> None:
    theirs = reference(SMALL)
    numbers = {"input_resolution": 16, "context_length": 16, "vocab_size": 640}
    state = theirs.state() | {name: LazyTensor.of(torch.tensor(value)) for name, value in numbers.items()}
    weights, dropped = clip_from_openai(state, "ViT.pt")
    assert (weights.network, weights.config, weights.source) == ("Clip", SMALL, "ViT.pt")
    assert dropped.keys() == numbers.keys()
    same_outputs(weights, theirs)
    assert clip_from_openai(state, "ViT.pt", resize="squash")[0].config == SMALL.replace(resize="squash")


def test_openais_types_are_kept_and_nothing_is_read_before_it_is_needed() -> None:
    state = reference(SMALL).half().state() | {"ln_final.weight": LazyTensor.of(torch.ones(64))}
    read: list[str] = []

    def watched(name: str, value: LazyTensor) -> LazyTensor:
        return LazyTensor(value.shape, value.dtype, lambda: read.append(name) or value.read())

    weights, _ = clip_from_openai({name: watched(name, value) for name, value in state.items()}, "ViT.pt")
    assert read == []
    assert weights.tensors["text.final_norm.weight"].dtype == torch.float32
    assert weights.tensors["text.projection.weight"].dtype == torch.float16
    assert torch.equal(weights.tensors["text.projection.weight"].read(), state["text_projection"].read().T)
    assert read == ["text_projection"]


@pytest.mark.parametrize("prefix", ["", "text."])
def test_open_clips_state_dict_with_its_config(prefix: str) -> None:
    theirs = reference(HUGE)
    of_text = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    state = {prefix + name if name.startswith(of_text) else name: value for name, value in theirs.state().items()}
    state["logit_scale"] = LazyTensor.of(state["logit_scale"].read()[None])
    weights, dropped = clip_from_open_clip(state, "bigg", HUGE_OPTIONS)
    assert (weights.config, dropped) == (HUGE, {})
    same_outputs(weights, theirs)
    only_model = {**HUGE_OPTIONS["model_cfg"], "quick_gelu": True, "custom_text": True}
    assert clip_from_open_clip(state, "bigg", only_model)[0].config == HUGE.replace(activation="quick_gelu")


def shapes_of(config: ClipConfig) -> dict[str, LazyTensor]:
    with torch.device("meta"):
        return OpenAI(config).state()


@pytest.mark.parametrize("name", ["vit-h-14", "vit-bigg-14"])
def test_open_clips_own_models_are_known_by_their_shapes(name: str) -> None:
    weights, _ = clip_from_open_clip(shapes_of(clip_preset(name)), name)
    assert weights.config == clip_preset(name).replace(resize="crop")


@pytest.mark.parametrize("name", ["vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336", "tiny"])
def test_shapes_of_openais_models_leave_the_activation_open(name: str) -> None:
    state = shapes_of(clip_preset(name))
    with pytest.raises(CheckpointError, match=r"^file: its shapes do not tell .* give its open_clip_config\.json\.$"):
        clip_from_open_clip(state, "file")
    weights, _ = clip_from_open_clip(state, "file", activation="gelu")
    assert weights.config == clip_preset(name).replace(activation="gelu", resize="crop")
    if name != "tiny":
        weights, _ = clip_from_openai(state, "file")
        assert weights.config == clip_preset(name).replace(resize="crop")


def test_shapes_of_nothing_known_ask_for_the_config() -> None:
    with pytest.raises(CheckpointError, match="its shapes do not tell"):
        clip_from_open_clip(shapes_of(HUGE), "file", activation="gelu")


def test_names_of_openai_work_both_ways() -> None:
    state = reference(SMALL).state()
    weights, _ = clip_from_openai(state, "ViT.pt")
    equal(to_theirs(weights.tensors, openai_names(SMALL), "ViT.pt"), state)


@pytest.mark.parametrize(
    ("section", "change", "error", "message"),
    [
        ("vision_cfg", {"layers": 4}, CheckpointError, r"'visual\.transformer\.resblocks\.3\.ln_1\.weight' is missing"),
        ("vision_cfg", {"layers": 2}, CheckpointError, r"resblocks\.2\..* is left over"),
        ("vision_cfg", {"image_size": 42}, CheckpointError, r"'visual.positional_embedding' has shape \(5, 52\)"),
        ("vision_cfg", {"mlp_ratio": 4.0}, CheckpointError, r"c_fc\.weight' has shape \(256, 52\)"),
        ("text_cfg", {"width": 64}, CheckpointError, r"'.*' has shape .*, which does not make"),
        ("text_cfg", {"vocab_size": 301}, CheckpointError, r"'token_embedding\.weight' has shape \(300, 32\)"),
        ("text_cfg", {"heads": 5}, ConfigError, r"text_width=32 is not divisible by text_heads=5"),
        ("text_cfg", {"hf_tokenizer_name": "x"}, ConfigError, r"unknown option text_cfg\.hf_tokenizer_name"),
        ("vision_cfg", {"timm_model_name": "x"}, ConfigError, r"unknown option vision_cfg\.timm_model_name"),
        (
            "vision_cfg",
            {"layers": [3, 4, 6, 3]},
            ConfigError,
            r"^vision_cfg: layers=\[3, 4, 6, 3\] is not a whole number",
        ),
        ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]}, ConfigError, r"preprocess_cfg\.mean=.* is not supported"),
        ("preprocess_cfg", {"resize_mode": "longest"}, ConfigError, r"resize: .*'squash' or 'crop'.*longest"),
    ],
)
def test_open_clips_config_must_fit(section: str, change: dict[str, Any], error: type[Exception], message: str) -> None:
    options = json.loads(json.dumps(HUGE_OPTIONS))
    (options if section == "preprocess_cfg" else options["model_cfg"])[section] |= change
    refused(error, message, lambda: clip_from_open_clip(shapes_of(HUGE), "file", options))


@pytest.mark.parametrize("name", ["visual.conv1.weight", "text_projection", "visual.positional_embedding"])
def test_what_is_no_vit_of_openai_is_said(name: str) -> None:
    state = shapes_of(SMALL)
    del state[name]
    refused(CheckpointError, f"^file: a tensor is missing .*{name}", lambda: clip_from_openai(state, "file"))
    state[name] = LazyTensor.of(torch.zeros(()))
    refused(CheckpointError, "^file: a tensor is missing or has", lambda: clip_from_openai(state, "file"))


def refused(error: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, UnclipError)
    assert "\n" not in str(caught.value)


def equal(found: Mapping[str, LazyTensor], expected: Mapping[str, LazyTensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert torch.equal(found[name].read(), value.read()), name


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
