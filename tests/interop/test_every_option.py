"""Every option of a reference's class is used, refused, named as left behind, or known to change nothing."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import pytest
import transformers
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

from kandinsky_configs import autoencoder_config_theirs, decoder_config_theirs
from networks import lazy
from unclip.checkpoint import NetworkWeights
from unclip.clip import Clip, clip_preset
from unclip.errors import ConfigError, UnclipError
from unclip.interop import kandinsky as kandinsky_configs
from unclip.interop import schedulers
from unclip.interop import unclip as unclip_configs
from unclip.interop.clip import clip_from_open_clip, clip_from_transformers, clip_to_transformers, openai_names
from unclip.interop.movq import autoencoder_config
from unclip.interop.options import IDLE, other_options
from unclip.interop.rules import ForeignNetwork, to_theirs
from unclip.models import autoencoder_preset, decoder_preset, kandinsky_decoder_preset, prior_preset, upsampler_preset

DECODER, PROJECTIONS = unclip_configs.decoder_config_theirs(decoder_preset("karlo"))
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample_range": 2.0, "thresholding": False}
PRIOR = schedulers.unclip_scheduler(prior_preset("karlo"), 5.0)
Read = Callable[[dict[str, Any]], object]

# By class, how its config is read, and the options that change nothing at the other values of this config.
CASES: dict[str, tuple[type, Mapping[str, Any], Read, set[str]]] = {
    "prior": (
        diffusers.PriorTransformer,
        unclip_configs.prior_config_theirs(prior_preset("karlo")),
        unclip_configs.prior_config,
        set(),
    ),
    "decoder": (
        diffusers.UNet2DConditionModel,
        DECODER,
        lambda config: unclip_configs.decoder_config(config, PROJECTIONS),
        set(),
    ),
    "projections": (
        UnCLIPTextProjModel,
        PROJECTIONS,
        lambda config: unclip_configs.decoder_config(DECODER, config),
        set(),
    ),
    "upsampler": (
        diffusers.UNet2DModel,
        unclip_configs.upsampler_config_theirs(upsampler_preset("karlo")),
        lambda config: unclip_configs.upsampler_config(config, 64),
        # Blocks without attention that resample themselves, and times that are no table, read none of these.
        {
            "attention_head_dim",
            "attn_norm_num_groups",
            "downsample_padding",
            "downsample_type",
            "upsample_type",
            "num_train_timesteps",
        },
    ),
    "Kandinsky's decoder": (
        diffusers.UNet2DConditionModel,
        decoder_config_theirs(kandinsky_decoder_preset("kandinsky-2.2")),
        kandinsky_configs.decoder_config,
        set(),
    ),
    "autoencoder": (
        diffusers.VQModel,
        autoencoder_config_theirs(autoencoder_preset("kandinsky-2.2")),
        autoencoder_config,
        {"sample_size", "scaling_factor"},  # the network reads neither; the second is named where it is read
    ),
    "UnCLIPScheduler": (
        diffusers.UnCLIPScheduler,
        PRIOR,
        lambda config: (
            schedulers.unclip_sampling(config, "prior"),
            schedulers.with_diffusion(prior_preset("karlo"), config),
        ),
        set(),
    ),
    # Without thresholding nothing reads its two.
    **{
        name: (
            getattr(diffusers, name),
            LATENT,
            lambda config, name=name: schedulers.kandinsky_sampling(config, name),
            {"dynamic_thresholding_ratio", "sample_max_value"},
        )
        for name in ("DDPMScheduler", "DDIMScheduler")
    },
}


def another(value: object) -> object:
    """A value of the same kind that is not the same."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case str():
            return f"other {value}"
        case list() | tuple():
            return [*value, value[0]]
    return 3


def is_noticed(read: Read, before: object, config: dict[str, Any]) -> bool:
    try:
        return read(config) != before
    except UnclipError as error:
        return len(str(error).splitlines()) == 1


@pytest.mark.parametrize("name", CASES)
def test_no_option_of_diffusers_is_ignored(name: str) -> None:
    kind, config, read, idle = CASES[name]
    before = read(dict(config))
    parameters = {key: value.default for key, value in inspect.signature(kind.__init__).parameters.items()}
    options = parameters.keys() - {"self"}
    ignored = {
        option
        for option in options
        if not is_noticed(read, before, {**config, option: another(config.get(option, parameters[option]))})
    }
    assert ignored == idle
    assert len(options) >= 4


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_no_option_of_a_clip_of_transformers_is_ignored(tower: str) -> None:
    kind = {"text": transformers.CLIPTextConfig, "vision": transformers.CLIPVisionConfig}[tower]
    config = clip_preset("tiny")
    parts, _ = clip_to_transformers(NetworkWeights("Clip", config, lazy(Clip(config).state_dict()), "tiny"))
    text, vision = parts["text_encoder"], parts["image_encoder"]

    def imported(options: dict[str, Any]) -> object:
        sides = (text._replace(config=options), vision) if tower == "text" else (text, vision._replace(config=options))
        network = clip_from_transformers(*sides, "tiny")
        return network.weights.config, network.dropped

    given = dict(text.config if tower == "text" else vision.config)
    before = imported(given)
    options = kind().to_dict() | given
    ignored = {
        name for name, value in options.items() if not is_noticed(imported, before, {**given, name: another(value)})
    }
    assert ignored - IDLE == set()
    assert ignored & {"hidden_size", "layer_norm_eps", "hidden_act", "num_channels", "projection_dim"} == set()


def test_options_of_nobody_are_named() -> None:
    config = {"hidden_size": 64, "rope_theta": 10.0, "use_cache": True, "odd": None, "temperature": 1.0, "_x": 1}
    assert other_options(config, ["hidden_size"], "a text tower") == {
        "rope_theta=10.0": "a text tower here has no such option"
    }


# By section of an `open_clip_config.json`, options and values that make another network or another preparation.
OTHER = {
    "preprocess_cfg": {
        "size": 32, "mode": "L", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear",
        "resize_mode": "longest", "odd": 1,
    },
    "model_cfg": {"init_logit_bias": -10.0, "multimodal_cfg": {"width": 8}, "odd": 1},
    "vision_cfg": {
        "ls_init_value": 1e-5, "attentional_pool": True, "no_ln_pre": True, "pos_embed_type": "sin_cos_2d",
        "final_ln_after_pool": True, "pool_type": "avg", "timm_model_name": "vit", "odd": 1, "image_size": [16, 32],
    },
    "text_cfg": {
        "hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "embed_cls": True, "proj_type": "none",
        "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "pad_id": 1, "eos_id": 2, "odd": 1,
    },
}  # fmt: skip
# What changes nothing, and what it is read as.
SAME = {
    "preprocess_cfg": {"size": [16, 16], "mode": "RGB", "interpolation": "random", "fill_color": 0},
    "vision_cfg": {"image_size": [16, 16], "patch_size": [8], "patch_dropout": 0.5, "timm_pool": "avg"},
    "text_cfg": {"eos_id": 639, "pool_type": "argmax", "hf_pooler_type": "mean_pooler"},
}
BASE = {
    "model_cfg": {"embed_dim": 16, "quick_gelu": True},
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 640, "width": 64, "heads": 4, "layers": 2},
    "preprocess_cfg": {"resize_mode": "squash"},
}


def open_clip(section: str = "model_cfg", options: Mapping[str, Any] | None = None) -> ForeignNetwork:
    """The tiny CLIP read with open_clip's options, some of them changed."""
    parts = {name: dict(values) for name, values in BASE.items()}
    parts[section] |= options or {}
    model = parts["model_cfg"] | {name: parts[name] for name in ("vision_cfg", "text_cfg")}
    config = clip_preset("tiny")
    state = to_theirs(lazy(Clip(config).state_dict()), openai_names(config), "")
    return clip_from_open_clip(state, "tiny", {"model_cfg": model, "preprocess_cfg": parts["preprocess_cfg"]})


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [(section, name, value) for section, options in OTHER.items() for name, value in options.items()],
)
def test_no_option_of_open_clip_is_ignored(section: str, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{section}(\.|: ){name}") as caught:
        open_clip(section, {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", SAME)
def test_options_of_open_clip_that_change_nothing(section: str) -> None:
    assert open_clip().weights.config == clip_preset("tiny")
    found = open_clip(section, SAME[section])
    assert found.weights.config == clip_preset("tiny")
    assert all(section in name for name in found.dropped)
    assert open_clip("preprocess_cfg", {"resize_mode": "shortest"}).weights.config.resize == "crop"
