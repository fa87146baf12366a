"""Shapes of CLIP: presets, validation and parameter counts."""

import pytest
import torch

from unclip.clip import Clip, ClipConfig, clip_preset
from unclip.clip.config import PRESETS
from unclip.config import override
from unclip.errors import ConfigError, InputError


# Published sizes: OpenAI's released state dicts, without the three integers kept beside the weights.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit-b-32", 151_277_313),
        ("vit-b-16", 149_620_737),
        ("vit-l-14", 427_616_513),
        ("vit-l-14-336", 427_944_193),
    ],
)
def test_presets_have_the_released_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        clip = Clip(clip_preset(name))
    assert sum(parameter.numel() for parameter in clip.parameters()) == count


def test_text_tower_of_vit_l_14_is_karlos() -> None:
    with torch.device("meta"):
        text = Clip(clip_preset("vit-l-14")).text
    assert sum(parameter.numel() for parameter in text.parameters()) == 123_650_304


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": "20"}, "image_size=20 is not divisible by patch_size=8; use 16 or 24"),
        ({"patch_size": "32"}, "image_size=16 is not divisible by patch_size=32; use 32"),
        ({"vision_heads": "5"}, "vision_width=64 is not divisible by vision_heads=5; use 60 or 65"),
        ({"text_heads": "7"}, "text_width=64 is not divisible by text_heads=7; use 63 or 70"),
        (
            {"stem": "[8, 8, 8, 8]"},
            r"stem=\[8, 8, 8, 8\] halves the grid 4 times, but patch_size=8; .* by 16",
        ),
        ({"stem": "[0]"}, r"stem=\[0\] .* use positive channels"),
        ({"vision_width": "0"}, "vision_width=0 and vision_heads=4 must be at least 1, or vision_layers 0"),
        ({"vision_heads": "0"}, "vision_width=64 and vision_heads=0 must be at least 1, or vision_layers 0"),
        ({"text_heads": "0"}, "text_heads: .*greater than or equal to 1"),
        ({"resize": "pad"}, "resize: .*'squash' or 'crop'.*pad"),
        ({"text_layers": "0"}, "text_layers: .*greater than or equal to 1"),
        ({"activation": "relu"}, "activation: .*quick_gelu.*relu"),
        ({"visionwidth": "64"}, "unknown setting 'visionwidth'.*did you mean 'vision_width'"),
    ],
)
def test_contradictions_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(clip_preset("tiny"), changes)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'vit-l-14'"):
        clip_preset("vit-l14")


def test_every_field_has_a_help_text() -> None:
    assert [name for name, field in ClipConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", PRESETS)
def test_heads_of_presets_are_as_wide_as_published(name: str) -> None:
    config = clip_preset(name)
    width = {"tiny": 16, "vit-h-14": 80, "vit-bigg-14": 104}.get(name, 64)
    assert config.vision_width // config.vision_heads == width
    assert config.text_width // config.text_heads == min(width, 64)


# Counts of the published checkpoints: https://github.com/mlfoundations/open_clip, table of models.
@pytest.mark.parametrize(("name", "expected"), [("vit-l-14", 427_616_513), ("vit-h-14", 986_109_441)])
def test_published_counts(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Clip(clip_preset(name)).parameters()) == expected


def test_the_wide_mlp_of_bigg_is_counted() -> None:
    with torch.device("meta"):
        vision = Clip(clip_preset("vit-bigg-14")).vision
    assert vision.blocks[0].ff_in.weight.shape == (8192, 1664)
    # OpenCLIP's table: 1844.91 M for the vision tower.
    assert round(sum(parameter.numel() for parameter in vision.parameters()) / 1e6, 2) == 1844.91
