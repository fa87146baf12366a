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


def test_the_papers_decoder_has_nearly_the_papers_size() -> None:
    with torch.device("meta"):
        count = count_parameters(Decoder(decoder_preset("dalle2-paper")))
    assert count == 3_466_183_174
    assert abs(count / 3.5e9 - 1) < 0.03  # Its table of token ids is not ours.


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
        ({"text_transformer": {"num_text_tokens": 6, "depth": 1, "num_heads": 4}}, r"text_transformer .* text_dim=0; "),
        (
            {"text_dim": 8, "text_transformer": {"num_text_tokens": 6, "depth": 1, "num_heads": 5}},
            r"^text_transformer: num_heads=5 does not divide context_dim=32\.$",
        ),
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
    for config in (decoder_preset("dalle2-paper"), prior_preset("reference"), upsampler_preset("tiny")):
        assert type(config).model_validate_json(config.model_dump_json()) == config
