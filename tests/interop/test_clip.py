"""CLIP weights as OpenAI and OpenCLIP spell them come in and give what their networks give."""

import json
from typing import Any

import pytest
import torch
from clip_networks import HUGE, SMALL, OpenAI, equal, load, prompts, reference, refused
from networks import close

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.clip import ClipConfig, clip_preset
from unclip.clip.model import normalize_pixels
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.clip import clip_from_open_clip, clip_from_openai, openai_names
from unclip.interop.rules import to_theirs

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
    with pytest.raises(
        CheckpointError, match=r"^file: its shapes do not show .*; put its open_clip_config\.json beside it"
    ):
        clip_from_open_clip(state, "file")
    config = clip_preset(name)
    heads = {
        "vision_cfg": {"head_width": config.vision_width // config.vision_heads},
        "text_cfg": {"heads": config.text_heads},
    }
    weights, _ = clip_from_open_clip(state, "file", {"model_cfg": heads})
    assert weights.config == config.replace(activation="gelu", resize="crop")
    if name != "tiny":
        weights, _ = clip_from_openai(state, "file")
        assert weights.config == clip_preset(name).replace(resize="crop")


def test_shapes_of_nothing_known_ask_for_the_config() -> None:
    with pytest.raises(CheckpointError, match="its shapes do not show"):
        clip_from_open_clip(shapes_of(HUGE), "file")


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
        ("text_cfg", {"hf_tokenizer_name": "x"}, ConfigError, r"text_cfg\.hf_tokenizer_name=.* is not supported"),
        ("vision_cfg", {"timm_model_name": "x"}, ConfigError, r"vision_cfg\.timm_model_name=.* is not supported"),
        (
            "vision_cfg",
            {"layers": [3, 4, 6, 3]},
            ConfigError,
            r"^vision_cfg: layers=\[3, 4, 6, 3\] is not a whole number",
        ),
        ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]}, ConfigError, r"preprocess_cfg\.mean=.* is not supported"),
        (
            "preprocess_cfg",
            {"resize_mode": "longest"},
            ConfigError,
            r"preprocess_cfg\.resize_mode='longest' is not supported",
        ),
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
