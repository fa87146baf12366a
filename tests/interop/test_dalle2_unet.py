"""U-Nets made by DALLE2-pytorch itself, tiny and random, give its numbers here; what cannot be imported is refused."""

from typing import Any

import pytest
import torch

from dalle2_golden import CASES, changed, group
from networks import close, lazy, read
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.interop.dalle2_files import decoder_from_checkpoint
from unclip.interop.rules import ForeignNetwork
from unclip.models import count_parameters
from unclip.models.dalle2_pytorch import Dalle2UNet, Dalle2UNetConfig, dalle2_decoder_preset

UNETS = [("decoder", 0), ("decoder", 1), ("decoder_options", 0), ("decoder_v1.1", 0), ("decoder_v1.1", 1)]
CONDITIONED = [(case, unet) for case, unet in UNETS if unet == 0]
NONE = torch.tensor([False, False])


def imported_unet(case: str, unet: int, version: str | None = None) -> ForeignNetwork:
    return decoder_from_checkpoint(lazy(group(case, "weights")), CASES[case]["config"], version, unet=unet)


def config_of(case: str, unet: int) -> Dalle2UNetConfig:
    config = imported_unet(case, unet).weights.config
    assert isinstance(config, Dalle2UNetConfig)
    return config


def unet_network(case: str, unet: int, **changes: Any) -> Dalle2UNet:
    network = Dalle2UNet(config_of(case, unet).replace(**changes)).eval()
    network.load_state_dict(read(imported_unet(case, unet).weights.tensors))
    return network


@torch.no_grad()
@pytest.mark.parametrize(("case", "unet"), UNETS)
def test_unet(case: str, unet: int) -> None:
    close(unet_network(case, unet)(**group(case, f"inputs.{unet}")), group(case, f"outputs.{unet}")["present"])


@torch.no_grad()
@pytest.mark.parametrize(("case", "unet"), CONDITIONED)
def test_unet_without_image_or_text(case: str, unet: int) -> None:
    network, inputs, outputs = unet_network(case, unet), group(case, f"inputs.{unet}"), group(case, f"outputs.{unet}")
    close(network(**inputs, image_present=NONE), outputs["image_absent"])
    close(network(**inputs, image_present=NONE, text_present=NONE), outputs["absent"])
    mixed = network(**inputs, image_present=torch.tensor([True, False]))
    close(mixed, torch.stack([outputs["present"][0], outputs["image_absent"][1]]))


@torch.no_grad()
def test_padding_of_a_unet_is_what_the_mask_or_zeros_say() -> None:
    network, inputs = unet_network("decoder", 0), group("decoder", "inputs.0")
    masked = inputs | {"text_hidden": inputs["text_hidden"] + (~inputs["text_mask"]).float()[:, :, None]}
    for variant in (masked, inputs | {"text_mask": None}):
        close(network(**variant), group("decoder", "outputs.0")["present"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("case", "field"),
    [
        ("decoder", "squared_attention_scale"),
        ("decoder", "normalized_linear_attention"),
        ("decoder_v1.1", "squared_attention_scale"),
        ("decoder_v1.1", "normalized_linear_attention"),
        ("decoder_options", "cosine_self_attention"),
        ("decoder_options", "cosine_cross_attention"),
        ("decoder_options", "standardized_weights"),
        ("decoder_options", "scale_skips"),
    ],
)
def test_a_flag_that_no_weight_shows_matters(case: str, field: str) -> None:
    right = getattr(config_of(case, 0), field)
    wrong = unet_network(case, 0, **{field: not right})(**group(case, "inputs.0"))
    assert (wrong - group(case, "outputs.0")["present"]).abs().max() > 1e-3


@pytest.mark.parametrize(("case", "unet"), UNETS)
def test_every_tensor_of_a_decoder_is_used_or_dropped_with_a_reason(case: str, unet: int) -> None:
    imported, weights = imported_unet(case, unet), group(case, "weights")
    used = [name for name in weights if name.startswith(f"unets.{unet}.")]
    assert len(used) == len(imported.weights.tensors)
    options = {name for name in imported.dropped if name.startswith("decoder.")}
    assert imported.dropped.keys() - options == weights.keys() - set(used)
    assert all(imported.dropped.values())


def test_options_of_a_decoder() -> None:
    config = config_of("decoder", 1)
    assert (config.low_res, config.low_res_noise, config.learned_variance, config.schedule) == (
        True,
        True,
        False,
        "linear",
    )
    assert (config.image_size, config.embedding_dim, config.downsample) == (16, 0, "cross_embed")
    config = config_of("decoder_options", 0)
    assert (config.prediction_type, config.in_channels, config.upsample) == ("v", 1, "nearest")
    config = config_of("decoder_v1.1", 1)
    assert (config.low_res_noise, config.schedule, config.downsample) == (False, "cosine", "conv")
    given = changed("decoder", "decoder", sample_timesteps=[64, 20], blur_sigma=0.5)
    unread = decoder_from_checkpoint(lazy(group("decoder", "weights")), given).dropped
    assert unread["decoder.sample_timesteps"] == "a setting of sampling; give it there"
    assert unread["decoder.blur_sigma"] == "used in training alone"


def test_names_between_1_10_and_1_13_are_the_same_network() -> None:
    weights, config = group("decoder_options", "weights"), CASES["decoder_options"]["config"]
    wrapped = {name.replace(".cross_attn.", ".cross_attn.fn."): value for name, value in weights.items()}
    imported = decoder_from_checkpoint(lazy(wrapped), config, "1.12.3")
    assert imported.weights.config == config_of("decoder_options", 0)
    assert imported.weights.tensors.keys() == imported_unet("decoder_options", 0).weights.tensors.keys()
    upsampler = {
        name.replace(".cross_attn.", ".cross_attn.fn."): value for name, value in group("decoder", "weights").items()
    }
    with pytest.raises(CheckpointError, match="the names do not tell the version"):
        decoder_from_checkpoint(lazy(upsampler), CASES["decoder"]["config"], unet=1)
    found = decoder_from_checkpoint(lazy(upsampler), CASES["decoder"]["config"], "1.13.0", unet=1)
    assert found.weights.config == config_of("decoder", 1)


@pytest.mark.parametrize("prefix", ["", "0.ema_model."])
def test_a_unet_is_found_under_other_prefixes(prefix: str) -> None:
    weights = group("decoder_options", "weights")
    moved = {
        prefix + name.removeprefix("unets.0."): value for name, value in weights.items() if name.startswith("unets")
    }
    step = {"0.step": torch.ones(())} if prefix else {}
    imported = decoder_from_checkpoint(lazy(moved | step), CASES["decoder_options"]["config"]["decoder"])
    assert imported.weights.tensors.keys() == imported_unet("decoder_options", 0).weights.tensors.keys()
    assert imported.dropped == dict.fromkeys(step, "the averaged weights are taken instead")


@pytest.mark.parametrize(
    ("case", "version", "message"),
    [
        ("decoder_v1.1", "1.5.0", "version=1.5.0 is not supported with these names; 0.23.10 to 1.3 and 1.10.0 to"),
        ("decoder", "1.2.0", "version=1.2.0 is not supported with these names"),
    ],
)
def test_other_versions_of_a_decoder_are_refused(case: str, version: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        imported_unet(case, 0, version)


@pytest.mark.parametrize(
    ("case", "place", "changes", "error", "message"),
    [
        (
            "decoder",
            "decoder.unets.0",
            {"combine_upsample_fmaps": True},
            ConfigError,
            "combine_upsample_fmaps=True is not",
        ),
        ("decoder", "decoder.unets.0", {"init_dim": 16}, ConfigError, "decoder.unets.0.init_dim=16 is not supported"),
        (
            "decoder",
            "decoder.unets.0",
            {"sparse_atn": True},
            ConfigError,
            "unknown option decoder.unets.0.sparse_atn; did you",
        ),
        (
            "decoder",
            "decoder.unets.0",
            {"text_embed_dim": None},
            ConfigError,
            "has no 'text_embed_dim', which this U-Net",
        ),
        (
            "decoder",
            "decoder.unets.0",
            {"image_embed_dim": 6},
            ConfigError,
            "embedding_dim=context_dim=6: DALLE2-pytorch",
        ),
        (
            "decoder",
            "decoder.unets.0",
            {"self_attn": [True]},
            ConfigError,
            "self_attn has 1 entries; 2 are needed, or one",
        ),
        ("decoder", "decoder.unets.0", {"resnet_groups": 3}, ConfigError, "num_groups has 3, which does not divide"),
        ("decoder", "decoder.unets.0", {"init_cross_embed_kernel_sizes": [3]}, ConfigError, "only two or more are"),
        (
            "decoder",
            "decoder.unets.0",
            {"sparse_attn": False},
            CheckpointError,
            "tensor 'downs.0.attention.* is left over",
        ),
        ("decoder", "decoder.unets.0", {"attn_heads": 3}, CheckpointError, "has shape .* which does not make the"),
        ("decoder", "decoder", {"beta_schedule": "linear"}, CheckpointError, "is not the table of the config's linear"),
        (
            "decoder",
            "decoder",
            {"beta_schedule": "sigmoid"},
            ConfigError,
            "decoder.beta_schedule='sigmoid' is not supp",
        ),
        ("decoder", "decoder", {"vae": [{}]}, ConfigError, "is not supported .we have no latent diffusion"),
        (
            "decoder",
            "decoder",
            {"learned_variance_constrain_frac": True},
            ConfigError,
            "constrain_frac=True is not supported",
        ),
        (
            "decoder",
            "decoder",
            {"image_size": 16},
            ConfigError,
            "needs one of image_size and image_sizes, and not both",
        ),
        ("decoder", "decoder", {"image_sizes": [8, 8]}, ConfigError, "has 1 different sizes; there are 2 U-Nets"),
        ("decoder", "decoder", {"image_sizes": [6, 16]}, ConfigError, "image_size=6 is not divisible by 4"),
        ("decoder", "decoder", {"unets": []}, ConfigError, "decoder.unets must be a list"),
        ("decoder_options", "decoder.unets.0", {"dim_mults": [2, 2, 3]}, ConfigError, "channel_mult begins with 2"),
        (
            "decoder_v1.1",
            "decoder.unets.0",
            {"cosine_sim_self_attn": True},
            ConfigError,
            "versions up to 1.3 do not know",
        ),
    ],
)
def test_what_a_decoder_cannot_do_is_refused(
    case: str, place: str, changes: dict[str, Any], error: type[UnclipError], message: str
) -> None:
    with pytest.raises(error, match=message):
        decoder_from_checkpoint(lazy(group(case, "weights")), changed(case, place, **changes))


def test_a_unet_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet=2 is not there; the decoder has 2, counted from 0"):
        imported_unet("decoder", 2)


@pytest.mark.parametrize(
    ("unet", "changes", "message"),
    [
        (0, {"image_embedding": None}, "this network needs image_embedding."),
        (0, {"text_hidden": None, "text_mask": None}, "this network needs text_hidden."),
        (0, {"text_hidden": torch.ones(2, 8, 10), "text_mask": None}, "text_hidden has 8 tokens; this network takes 7"),
        (0, {"low_res": torch.ones(2, 3, 8, 8)}, "this network does not read low_res; leave it out."),
        (
            0,
            {"self_condition": torch.ones(2, 3, 8, 8)},
            "this network does not read its own predictions .*; leave them out.",
        ),
        (0, {"x_t": torch.ones(2, 3, 8, 10)}, "8 x 10 pixels are not divisible by 4"),
        (1, {"low_res": None}, "this network needs low_res."),
        (1, {"low_res_noise_level": None}, "this network needs low_res_noise_level."),
    ],
)
def test_conditioning_that_does_not_fit_a_unet_is_refused(unet: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unet_network("decoder", unet)(**group("decoder", f"inputs.{unet}") | changes)


@torch.no_grad()
def test_low_precision_of_a_unet_stays_near() -> None:
    actual = unet_network("decoder", 0).bfloat16()(**group("decoder", "inputs.0"))
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), group("decoder", "outputs.0")["present"], rtol=0, atol=0.2)


def test_configs_that_contradict_themselves_are_refused() -> None:
    config = config_of("decoder", 0)
    for changes, message in (
        ({"low_res_noise": True}, "low_res_noise=True needs low_res=True"),
        ({"num_groups": (4,)}, "num_groups has 1 entries; channel_mult has 2 levels"),
        ({"base_channels": 7}, "base_channels=7 is not an even number from 4 on"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.replace(**changes)


# The count is that of version 1.1 itself with these options.
def test_the_preset_has_the_size_of_the_released_decoder() -> None:
    with torch.device("meta"):
        decoder = Dalle2UNet(dalle2_decoder_preset("laion-decoder"))
    assert count_parameters(decoder) == 982_610_118
    with pytest.raises(InputError, match="no preset of DALLE2-pytorch is called 'laion-prior'"):
        dalle2_decoder_preset("laion-prior")
