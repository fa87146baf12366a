"""Configurations of the networks of diffusers' unCLIP, as ours and back. Knows options; no tensors and no files."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop.options import Options
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

__all__ = [
    "decoder_config",
    "decoder_config_theirs",
    "prediction_type",
    "prediction_type_theirs",
    "prior_config",
    "prior_config_theirs",
    "trunk_fields",
    "upsampler_config",
    "upsampler_config_theirs",
]

Theirs = Mapping[str, Any]

# What our U-Net does; all published ones agree.
_TRUNK: dict[str, Any] = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "time_embedding_type": "positional",
    "num_class_embeds": None,
}
_CONDITIONED: dict[str, Any] = {
    "only_cross_attention": False,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "addition_time_embed_dim": None,
    "upcast_attention": False,
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "reverse_transformer_layers_per_block": None,
}
_PRIOR: dict[str, Any] = {
    "additional_embeddings": 4,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}
_UNUSED = ("downsample_padding", "downsample_type", "upsample_type", "attn_norm_num_groups", "num_train_timesteps")
_UNUSED_CONDITIONED = ("transformer_layers_per_block", "addition_embed_type_num_heads", "upcast_attention")
_CONDITIONING = {"default": "additive", "scale_shift": "adaptive"}
_PREDICTION = {"sample": "x0", "epsilon": "eps", "v_prediction": "v"}
_PLAIN, _ATTENDING = "Resnet{}sampleBlock2D", "SimpleCrossAttn{}Block2D"


def prior_config(prior: Theirs) -> PriorConfig:
    """Our configuration of a PriorTransformer; raises `ConfigError` naming an option that ours has no equal of."""
    options = Options(_public(prior), "prior")
    for name, value in _PRIOR.items():
        options.only(name, value, "our prior has no such variant")
    num_heads, dim = options.take("num_attention_heads", 32), options.take("embedding_dim", 768)
    width = num_heads * options.take("attention_head_dim", 64)
    for name, value in {"time_embed_dim": width, "embedding_proj_dim": dim, "clip_embed_dim": dim}.items():
        options.only(name, value, "another size follows from the rest")
    fields = {
        "embedding_dim": dim,
        "num_text_tokens": options.take("num_embeddings", 77),
        "width": width,
        "depth": options.take("num_layers", 20),
        "num_heads": num_heads,
        "dropout": options.take("dropout", 0.0),
    }
    options.finish()
    return load_config(PriorConfig, fields)


def prior_config_theirs(config: PriorConfig) -> dict[str, Any]:
    """The inverse of `prior_config`; raises `ConfigError` where theirs has no equal."""
    for name in ("text_embedding_dim", "text_dim"):
        value = getattr(config, name)
        _refuse(value not in (None, config.embedding_dim), name, value)
    _refuse(config.ff_mult != 4, "ff_mult", config.ff_mult)
    _refuse(config.num_text_tokens == 0, "num_text_tokens", 0)
    return {
        "_class_name": "PriorTransformer",
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.width // config.num_heads,
        "num_layers": config.depth,
        "embedding_dim": config.embedding_dim,
        "num_embeddings": config.num_text_tokens,
        "dropout": config.dropout,
        **_PRIOR,
    }


def decoder_config(unet: Theirs, text_proj: Theirs, scheduler: Theirs) -> DecoderConfig:
    """Our configuration of the decoder: a UNet2DConditionModel, its UnCLIPTextProjModel and its scheduler.

    Raises `ConfigError` naming the option that our network has no equal of.
    """
    options, projections = Options(_public(unet), "decoder"), Options(_public(text_proj), "text_proj")
    fields, attention_levels = trunk_fields(options)
    size, context_dim = options.need("sample_size"), options.need("cross_attention_dim")
    options.only("class_embed_type", "identity", "the projections add to the time embedding")
    for name in ("addition_embed_type", "encoder_hid_dim", "encoder_hid_dim_type"):
        options.only(name, None, "unCLIP's decoder has its projections beside it")
    projections.only("cross_attention_dim", context_dim, "the U-Net's is another")
    projections.only("time_embed_dim", 4 * fields["base_channels"], "the U-Net's is another")
    dim = projections.need("clip_embeddings_dim")
    fields |= {
        "image_size": size,
        "embedding_dim": dim,
        "text_dim": dim,
        "context_dim": context_dim,
        "num_image_tokens": projections.take("clip_extra_context_tokens", 4),
        "attention_resolutions": tuple(size // 2**level for level in attention_levels),
        "head_dim": options.take("attention_head_dim", 8),
        "dropout": options.take("dropout", 0.0),
        **_prediction(scheduler, options.need("out_channels"), fields["in_channels"]),
    }
    options.only("resnet_time_scale_shift", "scale_shift", "unCLIP's decoder scales and shifts")
    options.finish()
    projections.finish()
    return load_config(DecoderConfig, fields)


def upsampler_config(unet: Theirs, scheduler: Theirs, low_res_size: int) -> UpsamplerConfig:
    """Our configuration of an upsampler: a UNet2DModel and its scheduler; raises `ConfigError` likewise."""
    options = Options(_public(unet), "super_res")
    fields, attention_levels = trunk_fields(options)
    options.only("add_attention", False, "unCLIP's upsamplers are convolutional")
    options.only("class_embed_type", None, "unCLIP's upsamplers know no class")
    options.leave(("attention_head_dim",), "there is no attention")
    if attention_levels or fields["in_channels"] % 2:
        raise ConfigError("super_res is not one of unCLIP's upsamplers, which take two pictures and have no attention.")
    shift = options.take("resnet_time_scale_shift", "default")
    if shift not in _CONDITIONING:
        raise ConfigError(f"super_res.resnet_time_scale_shift={shift!r}; allowed: {', '.join(_CONDITIONING)}.")
    in_channels = fields.pop("in_channels") // 2
    fields |= {
        "image_size": options.need("sample_size"),
        "low_res_size": low_res_size,
        "in_channels": in_channels,
        "conditioning": _CONDITIONING[shift],
        "dropout": options.take("dropout", 0.0),
        **_prediction(scheduler, options.need("out_channels"), in_channels),
    }
    options.finish()
    return load_config(UpsamplerConfig, fields)


def trunk_fields(options: Options) -> tuple[dict[str, Any], list[int]]:
    """The fields that decoders and upsamplers share, and the levels that have attention; checks what must be fixed."""
    for name, value in {**_TRUNK, **_CONDITIONED}.items():
        options.only(name, value, "our U-Net has no such variant")
    options.leave((*_UNUSED, *_UNUSED_CONDITIONED), "these blocks do not read it")
    widths = list(options.need("block_out_channels"))
    if any(width % widths[0] for width in widths):
        raise ConfigError(f"{options.place}.block_out_channels={widths} are not multiples of the first.")
    options.only("time_embedding_dim", None, "it is four times the first width")
    kinds = options.need("down_block_types"), options.need("up_block_types")[::-1]
    attended = [level for level, kind in enumerate(kinds[0]) if kind == _ATTENDING.format("Down")]
    for direction, found in zip(("Down", "Up"), kinds, strict=True):
        wanted = [(_ATTENDING if level in attended else _PLAIN).format(direction) for level in range(len(widths))]
        if list(found) != wanted:
            raise ConfigError(f"{options.place}: blocks {list(found)} are not supported; expected {wanted}.")
    options.only("mid_block_type", "UNetMidBlock2DSimpleCrossAttn" if attended else "UNetMidBlock2D", "the levels")
    fields = {
        "base_channels": widths[0],
        "channel_mult": tuple(width // widths[0] for width in widths),
        "num_res_blocks": options.need("layers_per_block"),
        "in_channels": options.need("in_channels"),
    }
    return fields, attended


def decoder_config_theirs(config: DecoderConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse of `decoder_config`: of the U-Net, and of its projections. Raises `ConfigError` where it has none."""
    _refuse(config.patch_size != 1, "patch_size", config.patch_size)
    _refuse(config.text_dim != config.embedding_dim, "text_dim", config.text_dim)
    trunk = config.unet()
    unet = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.image_size,
        "in_channels": config.in_channels,
        "out_channels": trunk.out_channels,
        **_blocks(config.base_channels, config.channel_mult, trunk.attention_levels),
        "layers_per_block": config.num_res_blocks,
        "cross_attention_dim": config.context_dim,
        "attention_head_dim": config.head_dim,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        "dropout": config.dropout,
    }
    projections = {
        "_class_name": "UnCLIPTextProjModel",
        "clip_embeddings_dim": config.embedding_dim,
        "clip_extra_context_tokens": config.num_image_tokens,
        "cross_attention_dim": config.context_dim,
        "time_embed_dim": trunk.embedding_dim,
    }
    return unet, projections


def upsampler_config_theirs(config: UpsamplerConfig) -> dict[str, Any]:
    """The inverse of `upsampler_config`; raises `ConfigError` where theirs have no equal."""
    _refuse(config.patch_size != 1, "patch_size", config.patch_size)
    _refuse(config.noise_conditioning, "noise_conditioning", config.noise_conditioning)
    return {
        "_class_name": "UNet2DModel",
        "sample_size": config.image_size,
        "in_channels": 2 * config.in_channels,
        "out_channels": config.unet().out_channels,
        **_blocks(config.base_channels, config.channel_mult, ()),
        "layers_per_block": config.num_res_blocks,
        "add_attention": False,
        "resnet_time_scale_shift": {ours: theirs for theirs, ours in _CONDITIONING.items()}[config.conditioning],
        "dropout": config.dropout,
    }


def _blocks(base: int, mult: tuple[int, ...], attention_levels: tuple[int, ...]) -> dict[str, Any]:
    kinds = [_ATTENDING if level in attention_levels else _PLAIN for level in range(len(mult))]
    return {
        "block_out_channels": [base * factor for factor in mult],
        "down_block_types": [kind.format("Down") for kind in kinds],
        "up_block_types": [kind.format("Up") for kind in kinds[::-1]],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn" if attention_levels else "UNetMidBlock2D",
    }


def _prediction(scheduler: Theirs, out_channels: int, in_channels: int) -> dict[str, Any]:
    """What the scheduler says of the network's output, which must agree with its channels."""
    learned = scheduler.get("variance_type") in ("learned", "learned_range")
    if out_channels != (1 + learned) * in_channels:
        raise ConfigError(
            f"the network returns {out_channels} channels for {in_channels}, but its scheduler's variance_type is "
            f"{scheduler.get('variance_type')!r}; learned_range takes twice the channels, the others the same."
        )
    return {"learned_variance": learned, **prediction_type(scheduler)}


def prediction_type(scheduler: Theirs) -> dict[str, Any]:
    """The field of that name; raises `ConfigError` for a prediction that we do not know."""
    found = scheduler.get("prediction_type", "epsilon")
    if found not in _PREDICTION:
        raise ConfigError(f"prediction_type={found!r} is not supported; allowed: {', '.join(_PREDICTION)}.")
    return {"prediction_type": _PREDICTION[found]}


def prediction_type_theirs(ours: str) -> str:
    """The inverse of `prediction_type`, of the name alone."""
    return {name: theirs for theirs, name in _PREDICTION.items()}[ours]


def _public(config: Theirs) -> dict[str, Any]:
    """Options without the notes of diffusers about the file."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _refuse(wrong: bool, name: str, value: object) -> None:
    if wrong:
        raise ConfigError(f"{name}={value} cannot be said in diffusers' unCLIP; such a model stays in our format.")
