"""Configs refuse what cannot work, in one line that says what does; published shapes have the published sizes."""

import pytest
import torch

from unclip.errors import ConfigError, InputError
from unclip.models import (
    Decoder,
    DecoderConfig,
    Prior,
    Upsampler,
    count_parameters,
    decoder_preset,
    prior_preset,
    upsampler_preset,
)


def test_published_models_have_their_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert count_parameters(Prior(prior_preset("karlo"))) == 1_022_028_544
        assert count_parameters(Decoder(decoder_preset("karlo"))) == 893_318_086
        assert count_parameters(Upsampler(upsampler_preset("karlo"))) == 691_579_523


def test_the_reference_prior_is_the_papers() -> None:
    config = prior_preset("reference")
    assert (config.depth, config.num_heads, config.width, config.prediction_type) == (24, 16, 1024, "x0")


def test_a_size_that_cannot_be_halved_is_refused_with_sizes_that_can() -> None:
    config = DecoderConfig(
        image_size=64,
        embedding_dim=8,
        base_channels=32,
        channel_mult=(1, 1, 1, 1, 1),
        num_res_blocks=1,
        attention_resolutions=(),
        context_dim=8,
        patch_size=4,
    )
    message = r"^image_size=96 is not divisible by 64 \(patch_size 4, then the U-Net halves 4 times\); use 64 or 128\.$"
    with pytest.raises(ConfigError, match=message):
        config.replace(image_size=96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_resolutions": (5,)}, r"^attention_resolutions has 5, but the U-Net's grids are 16, 8\.$"),
        ({"head_dim": 48}, r"^head_dim=48 does not divide the 64 channels of level 1; "),
        ({"image_size": 1}, r"^image_size=1 is not divisible by 2 .*; use 2 or 4\.$"),
        ({"channel_mult": ()}, r"channel_mult"),
        ({"dropout": 1.0}, r"dropout"),
        ({"prediction_type": "noise"}, r"prediction_type"),
    ],
)
def test_a_decoder_config_names_what_does_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoder_preset("tiny").replace(**changes)


def test_a_prior_config_names_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"^width=64 is not divisible by 2 and by num_heads=5\.$"):
        prior_preset("tiny").replace(num_heads=5)


def test_an_upsampler_config_names_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"^low_res_size=32 is not below image_size=32\.$"):
        upsampler_preset("tiny").replace(low_res_size=32)


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"no PriorConfig preset is called 'referense'; did you mean 'reference'\?"):
        prior_preset("referense")


def test_configs_survive_json() -> None:
    for config in (decoder_preset("karlo"), prior_preset("reference"), upsampler_preset("tiny")):
        assert type(config).model_validate_json(config.model_dump_json()) == config
