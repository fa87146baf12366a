"""The names in the original checkpoints against those in diffusers, by the rules of the published conversion."""

import re

import pytest
import torch

from networks import lazy
from unclip.interop.movq import movq_names, movq_original_names
from unclip.interop.rules import to_theirs
from unclip.models import Autoencoder, AutoencoderConfig, autoencoder_preset

LEVELS = 4
RULES = [  # tried on one name after the other, all of them
    (r"\.down\.(\d)", r".down_blocks.\1"),
    (r"\.up\.(\d)", lambda match: f".up_blocks.{LEVELS - 1 - int(match[1])}"),
    (r"\.mid\.block_(\d)", lambda match: f".mid_block.resnets.{int(match[1]) - 1}"),
    (r"\.mid\.attn_1", ".mid_block.attentions.0"),
    (r"\.block\.", ".resnets."),
    (r"\.attn\.", ".attentions."),
    (r"\.(down|up)sample\.conv", r".\1samplers.0.conv"),
    (r"\.norm_out", ".conv_norm_out"),
    (r"nin_shortcut", "conv_shortcut"),
    (r"\.(q|k|v)$", r".to_\1"),
    (r"\.proj_out$", ".to_out.0"),
    (r"\.norm\.norm_layer$", ".spatial_norm.norm_layer"),
    (r"\.norm\.conv_(y|b)$", r".spatial_norm.conv_\1"),
    (r"\.norm$", ".group_norm"),
]


def converted(name: str) -> str:
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize(
    "config",
    [
        autoencoder_preset("kandinsky-2.2"),
        autoencoder_preset("kandinsky-2.2").replace(norm="group", attention_levels=(0, 2), middle_attention=False),
    ],
)
def test_original_names_convert_to_those_of_diffusers(config: AutoencoderConfig) -> None:
    original, published = movq_original_names(config), movq_names(config)
    assert original.keys() == published.keys()
    for key, name in original.items():
        parts, expected = ((value,) if isinstance(value, str) else value for value in (name, published[key]))
        assert tuple(map(converted, parts)) == tuple(expected), key


def test_the_original_has_as_many_tensors_as_published() -> None:
    config = autoencoder_preset("kandinsky-2.2")
    with torch.device("meta"):
        ours = Autoencoder(config)
    assert len(to_theirs(lazy(ours.state_dict()), movq_original_names(config), "")) == 431
