"""Configs go to diffusers' words and back, and what ours has not is refused in one line; so is another scheduler."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
from diffusers import DDIMScheduler, DDPMScheduler, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, VQModel

from kandinsky_configs import autoencoder_config_theirs, decoder_config_theirs
from unclip.config import Config
from unclip.errors import ConfigError
from unclip.interop.kandinsky import decoder_config
from unclip.interop.movq import autoencoder_config
from unclip.interop.schedulers import kandinsky_sampling, unclip_sampling
from unclip.interop.unclip import prior_config, prior_config_theirs
from unclip.models import PriorConfig, autoencoder_preset, kandinsky_decoder_preset, prior_preset

BIGG = prior_preset("karlo").replace(embedding_dim=1280)
TWO_1, TWO_2 = kandinsky_decoder_preset("kandinsky-2.1"), kandinsky_decoder_preset("kandinsky-2.2")
MOVQ = autoencoder_preset("kandinsky-2.2")
LATENT = {"beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize(
    ("config", "there", "back", "cls"),
    [
        (prior_preset("karlo"), prior_config_theirs, prior_config, PriorTransformer),
        (BIGG.replace(text_embedding_dim=640, dropout=0.1), prior_config_theirs, prior_config, PriorTransformer),
        (TWO_1, decoder_config_theirs, decoder_config, UNet2DConditionModel),
        (TWO_2.replace(dropout=0.1, image_size=96), decoder_config_theirs, decoder_config, UNet2DConditionModel),
        (MOVQ, autoencoder_config_theirs, autoencoder_config, VQModel),
        (MOVQ.replace(norm="group", middle_attention=False), autoencoder_config_theirs, autoencoder_config, VQModel),
    ],
)
def test_there_and_back(config: Config, there: Callable, back: Callable, cls: type) -> None:
    theirs = there(config)
    assert back(theirs) == config
    # All that diffusers writes and nothing else, with its defaults where ours has no say.
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in theirs.items()}
    assert options.pop("_class_name") == cls.__name__
    defaults = {name: parameter.default for name, parameter in signature(cls.__init__).parameters.items()}
    assert options.keys() == defaults.keys() - {"self"}


def test_the_published_decoders_are_the_presets() -> None:
    common = {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 8,
        "layers_per_block": 3,
        "block_out_channels": [384, 768, 1152, 1536],
        "down_block_types": ["ResnetDownsampleBlock2D"] + ["SimpleCrossAttnDownBlock2D"] * 3,
        "up_block_types": ["SimpleCrossAttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "cross_attention_dim": 768,
        "attention_head_dim": 64,
        "resnet_time_scale_shift": "scale_shift",
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.17.0.dev0",
        "upcast_attention": False,
    }
    with_text = {
        "encoder_hid_dim": 1024,
        "encoder_hid_dim_type": "text_image_proj",
        "addition_embed_type": "text_image",
    }
    without = {"encoder_hid_dim": 1280, "encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
    assert decoder_config(common | with_text) == TWO_1
    assert decoder_config(common | without) == TWO_2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 9}, r"^this is Kandinsky's inpainting decoder \(in_channels=9\), which is not supported; "),
        ({"addition_embed_type": "image_hint", "in_channels": 8}, r"^this is Kandinsky's ControlNet decoder "),
        ({"addition_embed_type": None}, r": addition_embed_type=None is not supported; only 'image' is\.$"),
        ({"encoder_hid_dim_type": "text_proj"}, r": encoder_hid_dim_type='text_proj' is not supported; only 'image_"),
        ({"out_channels": 6}, r": out_channels=6 is not supported; only 4 is\.$"),
        ({"act_fn": "gelu"}, r"^UNet2DConditionModel: act_fn='gelu' is not supported; only 'silu' is\.$"),
        ({"class_embed_typ": 1}, r"option class_embed_typ=1 is unknown; did you mean 'class_embed_type'\?"),
        (
            {"block_out_channels": [32, 64, 96, 48]},
            r": block_out_channels=\[32, 64, 96, 48\] are not multiples of the first\.$",
        ),
        ({"up_block_types": ["ResnetUpsampleBlock2D"] * 4}, r": up_block_types=.* is not supported; only \['Simple"),
        ({"down_block_types": ["DownBlock2D"] * 4}, r": down_block_types=\['DownBlock2D', .* only \['Resnet"),
        ({"sample_size": None}, r": sample_size=None is not possible; it is a whole number from 1\.$"),
        ({"layers_per_block": [1, 2, 3, 3]}, r": layers_per_block=\[1, 2, 3, 3\] is not a whole number, as 2 is\.$"),
    ],
)
def test_other_decoders_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoder_config(decoder_config_theirs(TWO_2) | changes)


def test_a_trunk_that_says_nothing_has_the_blocks_of_diffusers() -> None:
    theirs = decoder_config_theirs(TWO_2)
    for name, found in {"resnet_time_scale_shift": "default", "mid_block_type": "UNetMidBlock2DCrossAttn"}.items():
        with pytest.raises(ConfigError, match=f"{name}='{found}' is not supported"):
            decoder_config({key: value for key, value in theirs.items() if key != name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_in_type": "layer"}, r"^PriorTransformer: norm_in_type='layer' is not supported; only None is\.$"),
        ({"added_emb_type": None}, r": added_emb_type=None is not supported; only 'prd' is\.$"),
        ({"encoder_hid_proj_type": None}, r": encoder_hid_proj_type=None is not supported; only 'linear' is\.$"),
        ({"time_embed_dim": 512}, r": time_embed_dim=512 is not supported; only 2048 is\.$"),
        ({"clip_embed_dim": 512}, r": clip_embed_dim=512 is not supported; only 768 is\.$"),
        ({"additional_embeddings": 5}, r": additional_embeddings=5 is not supported; only 4 is\.$"),
        ({"depth": 5}, r": option depth=5 is unknown; .*allowed: added_emb_type, "),
        ({"num_layers": 0}, r"^depth: "),
    ],
)
def test_other_priors_are_refused(changes: dict[str, Any], message: str) -> None:
    assert prior_config({"_class_name": "PriorTransformer"}) == prior_preset("karlo")  # As all defaults are.
    with pytest.raises(ConfigError, match=message):
        prior_config(prior_config_theirs(prior_preset("karlo")) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ff_mult": 2}, r"^PriorConfig: ff_mult=2 is not supported; only 4 is\.$"),
        ({"text_dim": 512}, r"^PriorConfig: text_dim=512 is not supported; only 768 is\.$"),
        ({"num_text_tokens": 0}, r"^PriorConfig: num_text_tokens=0 is not supported; "),
    ],
)
def test_priors_that_diffusers_has_not_are_refused(changes: dict[str, Any], message: str) -> None:
    config: PriorConfig = prior_preset("karlo").replace(**changes)
    with pytest.raises(ConfigError, match=message):
        prior_config_theirs(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_channels": 4}, r"^VQModel: out_channels=4 is not supported; only 3 is\.$"),
        ({"lookup_from_codebook": True}, r"^VQModel: lookup_from_codebook=True is not supported; only False is\.$"),
        ({"norm_type": "layer"}, r"^norm: .*'group' or 'spatial'.*found 'layer'"),
    ],
)
def test_other_autoencoders_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        autoencoder_config(autoencoder_config_theirs(MOVQ) | changes)


@pytest.mark.parametrize(
    ("scheduler", "sampler", "bound"),
    [
        (DDPMScheduler(**LATENT, clip_sample_range=2.0), "ddpm", 2.0),
        (DDIMScheduler(**LATENT, clip_sample=False, thresholding=True, sample_max_value=2.0), "ddim", 2.0),
        (DDPMScheduler(**LATENT, thresholding=True, sample_max_value=None, clip_sample_range=3.0), "ddpm", 3.0),
        (DDPMScheduler(**LATENT, clip_sample=False), "ddpm", 1e6),
        (DDPMScheduler(**LATENT), "ddpm", 1.0),
    ],
)
def test_sampling_of_decoders(scheduler: DDPMScheduler, sampler: str, bound: float) -> None:
    config = dict(scheduler.config) | {"_class_name": type(scheduler).__name__}
    expected = {"num_steps": 50, "guidance_scale": 4.0, "sampler": sampler, "x0_bound": bound}
    assert kandinsky_sampling(config)[0] == expected


def test_sampling_of_priors() -> None:
    scheduler = UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0)
    expected = {"num_steps": 25, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 10.0}
    assert unclip_sampling(dict(scheduler.config), "prior") == expected | {"schedule_dtype": "float32"}


@pytest.mark.parametrize(
    "changes",
    [
        {"beta_end": 0.02},
        {"beta_schedule": "scaled_linear"},
        {"prediction_type": "v"},
        {"rescale_betas_zero_snr": True},
    ],
)
def test_other_schedulers_are_refused(changes: dict[str, Any]) -> None:
    (name, value), *_ = changes.items()
    with pytest.raises(ConfigError, match=f"^DDPMScheduler: {name}={value!r} is not supported; only "):
        kandinsky_sampling(LATENT | changes)
