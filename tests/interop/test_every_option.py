"""Every option of a reference's class is used, refused, named as left behind, or known to change nothing."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import pytest
import transformers
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

from unclip.errors import ConfigError
from unclip.interop import kandinsky_configs, schedulers, unclip_configs
from unclip.interop.clip import clip_from_open_clip, clip_from_transformers
from unclip.interop.options import other_options
from unclip.interop.sources import Component
from unclip.models import autoencoder_preset, decoder_preset, kandinsky_decoder_preset, prior_preset, upsampler_preset

DECODER, PROJECTIONS = unclip_configs.decoder_config_theirs(decoder_preset("karlo"))
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample_range": 2.0, "thresholding": False}
PRIOR = schedulers.unclip_scheduler(prior_preset("karlo"), 5.0, learned_variance=False)
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
        kandinsky_configs.decoder_config_theirs(kandinsky_decoder_preset("kandinsky-2.2")),
        kandinsky_configs.decoder_config,
        set(),
    ),
    "autoencoder": (
        diffusers.VQModel,
        kandinsky_configs.autoencoder_config_theirs(autoencoder_preset("kandinsky-2.2")),
        kandinsky_configs.autoencoder_config,
        {"sample_size", "scaling_factor"},  # the network reads neither; the second is named where it is read
    ),
    "UnCLIPScheduler": (
        diffusers.UnCLIPScheduler,
        PRIOR,
        lambda config: (
            schedulers.unclip_sampling(config, "prior"),
            schedulers.unclip_diffusion(config, learned_variance=False),
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
    except ConfigError as error:
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


@pytest.mark.parametrize(("tower", "idle"), [
    (transformers.CLIPTextConfig, {"pad_token_id", "bos_token_id"}),
    (transformers.CLIPVisionConfig, set()),
])  # fmt: skip
def test_no_option_of_a_clip_is_ignored(tower: type, idle: set[str]) -> None:
    """Names and widths show when a config is checked or tensors are moved; there are none here, so all end in errors."""
    idle = idle | {"attention_dropout", "initializer_range", "initializer_factor"}
    text = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "projection_dim": 24, "eos_token_id": 2}
    vision = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "projection_dim": 24}
    is_text = tower is transformers.CLIPTextConfig

    def read(changes: dict[str, Any]) -> str:
        first, second = ({**text, **changes}, vision) if is_text else (text, {**vision, **changes})
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the error without tensors is the first that is missing
            clip_from_transformers(Component(first, {}), Component(second, {}), "file")
        return f"{caught.value}"

    own = {name for name in tower.__annotations__ if name in inspect.signature(tower).parameters}
    tables = {"hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads"}
    tables |= {"vocab_size", "max_position_embeddings", "hidden_act", "image_size", "patch_size"}
    assert own - tables - idle == ({"eos_token_id", "layer_norm_eps"} if is_text else {"num_channels", "layer_norm_eps"})
    for name in own - tables - idle:
        assert name in read({name: 7})


def test_options_of_nobody_are_named() -> None:
    config = {"hidden_size": 64, "rope_theta": 10.0, "use_cache": True, "odd": None, "temperature": 1.0, "_x": 1}
    assert other_options(config, ["hidden_size"], "a text tower") == {
        "rope_theta=10.0": "a text tower here has no such option"
    }


PREPROCESS = {
    "size": (32, "preprocess_cfg.size=32 is not the image_size=224"),
    "mode": ("L", "preprocess_cfg.mode='L' is not supported"),
    "mean": ([0.5, 0.5, 0.5], "preprocess_cfg.mean="),
    "std": ([0.5, 0.5, 0.5], "preprocess_cfg.std="),
    "interpolation": ("bilinear", "preprocess_cfg.interpolation='bilinear' is not supported"),
    "resize_mode": ("longest", "preprocess_cfg.resize_mode='longest' is not supported"),
    "other": (1, "unknown option preprocess_cfg.other"),
}
SECTIONS = {
    "": {"init_logit_bias": -10.0, "multimodal_cfg": {"width": 8}, "other": 1},
    "vision_cfg": {
        "ls_init_value": 1e-5, "attentional_pool": True, "no_ln_pre": True, "pos_embed_type": "sin_cos_2d",
        "final_ln_after_pool": True, "pool_type": "avg", "timm_model_name": "vit", "other": 1,
    },
    "text_cfg": {
        "hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "embed_cls": True, "no_causal_mask": True,
        "pool_type": "last", "proj_bias": True, "proj_type": "none", "pad_id": 1, "eos_id": 2, "other": 1,
    },
}  # fmt: skip
