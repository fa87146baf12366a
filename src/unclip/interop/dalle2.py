"""DALLE2-pytorch's configs as ours."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop.options import Options, Table, check_kind
from unclip.models.dalle2_pytorch import V1_1_UNET, Dalle2PriorConfig, Dalle2UNetConfig

Ignored = Mapping[str, tuple[str, ...]]
"""By the reason, options that do not change the network."""

_SCHEDULES = ("cosine", "linear")
# The defaults are those of the network's constructor.
_UNET: Table = {
    "num_heads": ("attn_heads", 16),
    "head_dim": ("attn_dim_head", 32),
    "linear_attention": ("sparse_attn", False),
    "cosine_self_attention": ("cosine_sim_self_attn", False),
    "cosine_cross_attention": ("cosine_sim_cross_attn", False),
    "num_time_tokens": ("num_time_tokens", 2),
    "num_image_tokens": ("num_image_tokens", 4),
    "add_image_to_time": ("add_image_embeds_to_time", True),
    "num_text_tokens": ("max_text_len", 256),
    "self_conditioning": ("self_cond", False),
    "final_kernel": ("final_conv_kernel_size", 1),
    "downsample_kernels": ("cross_embed_downsample_kernel_sizes", (2, 4)),
    "memory_efficient": ("memory_efficient", False),
    "scale_skips": ("scale_skip_connection", False),
    "standardized_weights": ("resnet_weight_standardization", False),
}
_UNET_IGNORED: Ignored = {
    "the decoder decides it": ("channels", "channels_out", "lowres_cond", "lowres_noise_cond", "cond_on_image_embeds"),
    "never read by DALLE2-pytorch": ("out_dim", "attend_at_middle"),
    "used in training alone": ("checkpoint_during_training",),
}
# Options that versions up to 1.3 did not have.
_SINCE_V1_1 = ("self_cond", "cosine_sim_self_attn", "cosine_sim_cross_attn", "resnet_weight_standardization")
_DECODER_IGNORED: Ignored = {
    "used in training alone": (
        *("loss_type", "image_cond_drop_prob", "text_cond_drop_prob", "vb_loss_weight", "p2_loss_weight_gamma"),
        *("p2_loss_weight_k", "random_crop_sizes", "use_blur_for_lowres_cond", "lowres_downsample_first", "blur_prob"),
        *("blur_sigma", "blur_kernel_size"),
    ),
    "a setting of sampling; give it there": (
        *("sample_timesteps", "ddim_sampling_eta", "clip_denoised", "clip_x_start", "use_dynamic_thres"),
        *("dynamic_thres_percentile", "lowres_noise_sample_level"),
    ),
    "belongs to CLIP": ("clip", "clip_adapter_overrides"),
    "pixels are in [-1, 1] here": ("auto_normalize_img",),
}
_PRIOR: Table = {
    "num_text_tokens": ("max_text_len", 256),
    "num_heads": ("heads", 8),
    "head_dim": ("dim_head", 64),
    "ff_mult": ("ff_mult", 4),
    "num_embedded_timesteps": ("num_timesteps", None),
    "num_text_embedding_tokens": ("num_text_embeds", 1),
    "num_time_tokens": ("num_time_embeds", 1),
    "num_noised_tokens": ("num_image_embeds", 1),
    "norm_in": ("norm_in", False),
    "norm_ff": ("normformer", False),
    "norm_out": ("norm_out", True),
    "project_out": ("final_proj", True),
    "rotary": ("rotary_emb", True),
    "attention_dropout": ("attn_dropout", 0.0),
    "ff_dropout": ("ff_dropout", 0.0),
    "self_conditioning": ("self_cond", False),
}
_PRIOR_IGNORED: Ignored = {
    "used in training alone": (
        *("loss_type", "cond_drop_prob", "text_cond_drop_prob", "image_cond_drop_prob", "training_clamp_l2norm"),
    ),
    "a setting of sampling; give num_steps instead": ("sample_timesteps",),
    "belongs to CLIP": ("clip", "image_size", "image_channels", "clip_adapter_overrides"),
}


def prior_config(
    config: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Dalle2PriorConfig, float, dict[str, str]]:
    """Read a training config or its section "prior"; `changes` are fields that a version differs in.

    Return our config, the factor of unit embeddings, and options that do not change the network, with reasons.
    """
    prior = Options(config.get("prior", config), "prior")
    net = Options(prior.need("net", {}), "prior.net")
    dim = net.need("dim", 1)
    prior.only("image_embed_dim", dim, "the network's dim is another")
    for name in ("sampling_clamp_l2norm", "sampling_final_clamp_l2norm", "init_image_embed_l2norm"):
        prior.only(name, False, "our samplers do not project to the sphere")
    fields = net.fields(_PRIOR) | {"embedding_dim": dim, "depth": net.need("depth", 1)}
    fields |= _diffusion(
        "prior",
        predicts_v=prior.take("predict_v", False),
        predicts_x0=prior.take("predict_x_start", True),
        schedule=prior.take("beta_schedule", "cosine"),
        num_timesteps=prior.take("timesteps", 1000),
    )
    fields["reads_text_hidden"] = prior.take("condition_on_text_encodings", True)
    scale = float(prior.take("image_embed_scale", dim**0.5))
    if scale <= 0:
        raise ConfigError(f"prior.image_embed_scale={scale} must be positive.")
    net.finish({})
    unread = prior.finish(_PRIOR_IGNORED)
    return load_config(Dalle2PriorConfig, fields | dict(changes)), scale, unread


def num_unets(config: Mapping[str, Any]) -> int:
    """Count the U-Nets of the decoder in a training config or its section "decoder"."""
    return len(_unets(Options(config.get("decoder", config), "decoder")))


def unet_config(config: Mapping[str, Any], index: int, *, old: bool) -> tuple[Dalle2UNetConfig, dict[str, str]]:
    """Read U-Net `index` of a training config or its section "decoder"; `old` is up to version 1.3.

    Return our config, and options that do not change the network, with reasons.
    """
    decoder = Options(config.get("decoder", config), "decoder")
    unets = _unets(decoder)
    unet = Options(unets[index], f"decoder.unets.{index}")
    fields = _decided_by_decoder(decoder, index, len(unets))
    fields |= _conditioning(unet, reads=not decoder.take("unconditional", False), first=index == 0)
    if old:
        for name in _SINCE_V1_1:
            unet.only(name, False, "versions up to 1.3 do not know it")
        fields |= V1_1_UNET
    fields |= unet.fields(_UNET) | _levels(unet, old)
    unread = unet.finish(_UNET_IGNORED) | decoder.finish(_DECODER_IGNORED)
    return load_config(Dalle2UNetConfig, fields), unread


def _unets(decoder: Options) -> list[Any]:
    unets = decoder.need("unets", None)
    if not isinstance(unets, list | tuple) or not unets:
        raise ConfigError("decoder.unets must be a list of the options of each U-Net.")
    return list(unets)


def _decided_by_decoder(decoder: Options, index: int, num: int) -> dict[str, Any]:
    decoder.only("vae", None, "we have no latent diffusion")
    decoder.only("predict_x_start_for_latent_diffusion", False, "we have no latent diffusion")
    decoder.only("learned_variance_constrain_frac", False, "our samplers read a fraction in [-1, 1]")

    one: Any = decoder.take("image_size", None)
    several: Any = decoder.take("image_sizes", None)
    if (one is None) == (several is None):
        raise ConfigError("decoder needs one of image_size and image_sizes, and not both.")
    if several is not None:
        check_kind(decoder.place, "image_sizes", several, (64,))
    sizes = [one] if several is None else sorted(set(several))
    if len(sizes) != num:
        raise ConfigError(f"decoder.image_sizes has {len(sizes)} different sizes; there are {num} U-Nets.")

    def flags(name: str, default: bool, length: int) -> tuple[bool, ...]:
        """Take one value or several; those that are missing are off."""
        values = decoder.some(name, default)
        return values + (False,) * (length - len(values))

    default_schedule = "linear" if num > 1 and index == num - 1 else "cosine"
    noised = flags("use_noise_for_lowres_cond", False, num - 1)
    return {
        "image_size": sizes[index],
        "in_channels": decoder.take("channels", 3),
        "learned_variance": flags("learned_variance", True, num)[index],
        "low_res": index > 0,
        "low_res_noise": index > 0 and noised[index - num],
    } | _diffusion(
        "decoder",
        predicts_v=decoder.each("predict_v", False, num)[index],
        predicts_x0=decoder.each("predict_x_start", False, num)[index],
        schedule=decoder.each("beta_schedule", None, num)[index] or default_schedule,
        num_timesteps=decoder.take("timesteps", 1000),
    )


def _diffusion(place: str, *, predicts_v: bool, predicts_x0: bool, schedule: str, num_timesteps: int) -> dict[str, Any]:
    """Return the fields of the diffusion process; raises `ConfigError` for schedules that ours does not have."""
    if schedule not in _SCHEDULES:
        raise ConfigError(f"{place}.beta_schedule={schedule!r} is not supported; only {' and '.join(_SCHEDULES)} are.")
    if schedule == "linear" and num_timesteps != 1000:
        raise ConfigError(f"{place}: a linear schedule of {num_timesteps} steps is not supported; only of 1000.")
    prediction_type = "v" if predicts_v else "x0" if predicts_x0 else "eps"
    return {"prediction_type": prediction_type, "schedule": schedule, "num_timesteps": num_timesteps}


def _conditioning(unet: Options, *, reads: bool, first: bool) -> dict[str, Any]:
    reads_text = reads and unet.take("cond_on_text_encodings", False)
    sizes = {}
    for field, name, is_read in (
        ("embedding_dim", "image_embed_dim", reads and first),
        ("text_dim", "text_embed_dim", reads_text),
    ):
        size = unet.take(name, 0)
        if is_read and not size:
            raise ConfigError(f"{unet.place} has no {name!r}, which this U-Net needs.")
        sizes[field] = size if is_read else 0
    return sizes


def _levels(unet: Options, old: bool) -> dict[str, Any]:
    base, mults = unet.need("dim", 1), tuple(unet.take("dim_mults", (1, 2, 4, 8)))
    unet.only("init_dim", base, "their last block takes dim channels")
    unet.only("combine_upsample_fmaps", False, "it resizes by a method of its own")
    stem, one_kernel = unet.take("init_cross_embed_kernel_sizes", (3, 7, 15)), unet.take("init_conv_kernel_size", 7)
    has_cross_embed = unet.take("init_cross_embed", True)
    if has_cross_embed and len(stem) < 2:
        raise ConfigError(f"{unet.place}.init_cross_embed_kernel_sizes={stem} is not supported; only two or more are.")
    is_cross_embed = unet.take("cross_embed_downsample", False)
    return {
        "base_channels": base,
        "channel_mult": mults,
        "num_res_blocks": unet.each("num_resnet_blocks", 2, len(mults)),
        "num_groups": unet.each("resnet_groups", 8, len(mults)),
        "self_attention": tuple(bool(on) for on in unet.each("self_attn", False, len(mults))),
        "context_dim": unet.take("cond_dim", base),
        "stem_kernels": tuple(sorted(stem)) if has_cross_embed else (one_kernel,),
        "downsample": "cross_embed" if is_cross_embed else "conv" if old else "unshuffle",
        "upsample": "pixel_shuffle" if unet.take("pixel_shuffle_upsample", True) else "nearest",
    }
