"""Priors made by DALLE2-pytorch itself, tiny and random, give its numbers here; what cannot be imported is refused."""

from typing import Any

import pytest
import torch

from dalle2_golden import CASES, changed, group
from networks import close, lazy, read
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.interop.dalle2_files import prior_from_checkpoint
from unclip.interop.rules import ForeignNetwork
from unclip.models import count_parameters
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig, dalle2_prior_preset

PRIORS = sorted(case for case in CASES if case.startswith("prior"))
NONE = torch.tensor([False, False])


def imported_prior(case: str, version: str | None = None) -> ForeignNetwork:
    return prior_from_checkpoint(lazy(group(case, "weights")), CASES[case]["config"], version)


def config_of(imported: ForeignNetwork) -> Dalle2PriorConfig:
    assert isinstance(imported.weights.config, Dalle2PriorConfig)
    return imported.weights.config


def network(imported: ForeignNetwork, **changes: Any) -> Dalle2Prior:
    prior = Dalle2Prior(config_of(imported).replace(**changes)).eval()
    prior.load_state_dict(read(imported.weights.tensors))
    return prior


@torch.no_grad()
@pytest.mark.parametrize("case", PRIORS)
def test_prior(case: str) -> None:
    close(network(imported_prior(case))(**group(case, "inputs")), group(case, "outputs")["present"])


@torch.no_grad()
@pytest.mark.parametrize("case", [case for case in PRIORS if not case.endswith("v1.1")])
def test_prior_without_text(case: str) -> None:
    imported, inputs, outputs = imported_prior(case), group(case, "inputs"), group(case, "outputs")
    close(network(imported)(**inputs, text_present=NONE), outputs["absent"])
    text_alone = network(imported, null_hides_x_t=False)
    close(text_alone(**inputs, text_present=NONE), outputs["text_absent"])
    mixed = text_alone(**inputs, text_present=torch.tensor([True, False]))
    close(mixed, torch.stack([outputs["present"][0], outputs["text_absent"][1]]))


@torch.no_grad()
def test_padding_is_what_the_mask_or_zeros_say() -> None:
    prior, inputs = network(imported_prior("prior")), group("prior", "inputs")
    masked = inputs | {"text_hidden": inputs["text_hidden"] + (~inputs["text_mask"]).float()[:, :, None]}
    unmasked = inputs | {"text_mask": None}
    longest = int(inputs["text_mask"].sum(1).max())
    trimmed = inputs | {name: inputs[name][:, :longest] for name in ("text_hidden", "text_mask")}
    for variant in (masked, unmasked, trimmed):
        close(prior(**variant), group("prior", "outputs")["present"])


def test_a_prior_standardises_by_a_constant() -> None:
    unit = torch.nn.functional.normalize(torch.randn(3, 24), dim=-1)
    prior = network(imported_prior("prior"))
    torch.testing.assert_close(prior.standardize(unit), unit * 24**0.5)
    torch.testing.assert_close(prior.unstandardize(prior.standardize(unit)), unit)
    scaled = network(imported_prior("prior_options"))
    torch.testing.assert_close(scaled.standardize(unit[:, :16]), unit[:, :16] * 3)


@pytest.mark.parametrize("case", PRIORS)
def test_every_tensor_of_a_prior_is_used_or_dropped_with_a_reason(case: str) -> None:
    imported = imported_prior(case)
    names = {name.removeprefix("net.") for name in set(group(case, "weights")) - set(imported.dropped)}
    ours = {
        name.replace("null_text_encodings", "null_text_embed") if "v1.1" in case else name
        for name in imported.weights.tensors
    }
    assert ours - names == {"embedding_mean", "embedding_std"}
    assert names <= ours
    assert all(imported.dropped.values())
    reasons = {name.split(".")[0] for name in imported.dropped if not name.endswith("rotary_emb.freqs")}
    assert reasons - {"prior"} == {"noise_scheduler"}


def test_options_of_a_prior() -> None:
    config = config_of(imported_prior("prior_options"))
    assert (config.prediction_type, config.num_timesteps, config.reads_text_hidden) == ("v", 100, False)
    options = {name: why for name, why in imported_prior("prior").dropped.items() if name.startswith("prior.")}
    assert options == {"prior.cond_drop_prob": "used in training alone"}


def test_v1_1_is_told_by_its_names_or_its_version() -> None:
    for version in (None, "1.1.0", "0.26.2"):
        config = config_of(imported_prior("prior_v1.1", version))
        assert (config.cosine_attention, config.position_bias_scale, config.learned_nulls) == (False, 128.0, False)
    for version in (None, "1.15.6", "1.10.4"):
        config = config_of(imported_prior("prior", version))
        assert (config.cosine_attention, config.position_bias_scale, config.learned_nulls) == (True, 1.0, True)


@pytest.mark.parametrize("prefix", ["", "ema_model.net."])
def test_a_prior_is_found_under_other_prefixes(prefix: str) -> None:
    weights = group("prior", "weights")
    moved = {prefix + name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    others = {"clip.clip.logit_scale": "CLIP is a model of its own"}
    others |= {"online_model.net.learned_query": "the averaged weights are taken instead"} if prefix else {}
    given = moved | dict.fromkeys(others, torch.ones(()))
    imported = prior_from_checkpoint(lazy(given), CASES["prior"]["config"]["prior"])
    assert imported.weights.tensors.keys() == imported_prior("prior").weights.tensors.keys()
    rotations = "frequencies of the rotation, which the network computes"
    unread = {"prior.cond_drop_prob": "used in training alone"}
    assert {name: reason for name, reason in imported.dropped.items() if reason != rotations} == others | unread


@pytest.mark.parametrize(
    ("case", "version", "message"),
    [
        ("prior_v1.1", "1.6.0", "version=1.6.0 is not supported with these names; 0.23.10 to 1.3 and 1.10.4 to"),
        ("prior_v1.1", "0.20.1", "version=0.20.1 is not supported"),
        ("prior_v1.1", "1.15.6", "version=1.15.6 is not supported with these names"),
        ("prior", "1.10.3", "version=1.10.3 is not supported with these names"),
        ("prior", "latest", "version='latest' is no version of DALLE2-pytorch; it looks like '1.15.6'."),
    ],
)
def test_other_versions_of_a_prior_are_refused(case: str, version: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        imported_prior(case, version)


@pytest.mark.parametrize(
    ("place", "changes", "error", "message"),
    [
        (
            "prior",
            {"init_image_embed_l2norm": True},
            ConfigError,
            "prior.init_image_embed_l2norm=True is not supported",
        ),
        ("prior", {"beta_schedule": "jsd"}, ConfigError, "prior.beta_schedule='jsd' is not supported; only cosine and"),
        ("prior", {"beta_schedule": "linear"}, ConfigError, "a linear schedule of 100 steps is not supported"),
        ("prior", {"image_embed_dim": 25}, ConfigError, "prior.image_embed_dim=25 is not supported"),
        ("prior", {"image_embed_scale": -1.0}, ConfigError, "prior.image_embed_scale=-1.0 must be positive"),
        (
            "prior",
            {"predict_xstart": True},
            ConfigError,
            "unknown option prior.predict_xstart; did you mean 'predict_x_st",
        ),
        ("prior", {"net": 3}, ConfigError, "prior.net must be a mapping of options; found int."),
        ("prior.net", {"depth": None}, ConfigError, "prior.net has no 'depth', which has no default."),
        ("prior.net", {"num_timesteps": 99}, ConfigError, "num_embedded_timesteps=99 is below num_timesteps=100"),
        (
            "prior.net",
            {"heads": 4},
            CheckpointError,
            r"bias.weight' has shape \(32, 3\), which does not make the \(32, 4",
        ),
        ("prior.net", {"depth": 3}, CheckpointError, r"tensor .*layers.2.* is missing; the configuration asks for it"),
        ("prior.net", {"depth": 1}, CheckpointError, r"tensor .*layers.1.* is left over"),
        (
            "prior",
            {"timesteps": 99},
            CheckpointError,
            "alphas_cumprod' is not the table of the config's cosine schedule of 99",
        ),
    ],
)
def test_what_a_prior_cannot_do_is_refused(
    place: str, changes: dict[str, Any], error: type[UnclipError], message: str
) -> None:
    with pytest.raises(error, match=message):
        prior_from_checkpoint(lazy(group("prior", "weights")), changed("prior", place, **changes))


def test_foreign_tensors_are_refused() -> None:
    weights, config = group("prior", "weights"), CASES["prior"]["config"]
    with pytest.raises(CheckpointError, match=r"no tensor is called 'net.learned_query' or"):
        prior_from_checkpoint(lazy({"weight": torch.ones(1)}), config)
    with pytest.raises(CheckpointError, match=r"tensor 'vae.weight' belongs to no part of DALLE2-pytorch"):
        prior_from_checkpoint(lazy(weights | {"vae.weight": torch.ones(1)}), config)
    rotations = "net.causal_transformer.layers.0.0.rotary_emb.freqs"
    with pytest.raises(CheckpointError, match="holds rotations that are not the usual ones"):
        prior_from_checkpoint(lazy(weights | {rotations: weights[rotations] * 2}), config)


def test_text_that_a_prior_has_no_use_for_is_refused() -> None:
    inputs, options = group("prior", "inputs"), group("prior_options", "inputs")
    prior, without_tokens = network(imported_prior("prior")), network(imported_prior("prior_options"))
    with pytest.raises(InputError, match="this prior needs text_hidden, up to 40 tokens"):
        prior(**inputs | {"text_hidden": None, "text_mask": None})
    with pytest.raises(InputError, match="text_hidden has 41 tokens; this prior takes 40"):
        prior(**inputs | {"text_hidden": torch.ones(2, 41, 24), "text_mask": None})
    with pytest.raises(InputError, match="does not read its own predictions"):
        prior(**inputs, self_condition=inputs["x_t"])
    with pytest.raises(InputError, match="was trained without text tokens"):
        without_tokens(**options, text_hidden=torch.ones(2, 3, 16))
    with pytest.raises(InputError, match="never saw a text left out"):
        network(imported_prior("prior_v1.1"))(**inputs, text_present=NONE)


@torch.no_grad()
def test_low_precision_of_a_prior_stays_near() -> None:
    actual = network(imported_prior("prior")).bfloat16()(**group("prior", "inputs"))
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), group("prior", "outputs")["present"], rtol=0, atol=0.2)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedding_dim=25 is not an even number"):
        config_of(imported_prior("prior")).replace(embedding_dim=25)


# The count is that of version 1.1 itself with these options.
def test_the_preset_has_the_size_of_the_released_prior() -> None:
    with torch.device("meta"):
        prior = Dalle2Prior(dalle2_prior_preset("laion-prior"))
    assert count_parameters(prior) == 249_277_696
    with pytest.raises(InputError, match="no preset of DALLE2-pytorch is called 'laion'"):
        dalle2_prior_preset("laion")
