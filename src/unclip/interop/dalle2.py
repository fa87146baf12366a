"""Configurations and tensors of DALLE2-pytorch."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from unclip.checkpoint import LazyTensor
from unclip.config import load_config
from unclip.diffusion import make_schedule
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.options import Options, check_kind
from unclip.interop.rules import shapes_of
from unclip.models.dalle2_pytorch import V1_1_UNET, Dalle2PriorConfig, Dalle2UNetConfig

_SCHEDULES = ("cosine", "linear")


def schedule_options(name: str, num_timesteps: int, place: str) -> dict[str, Any]:
    """The fields `schedule` and `num_timesteps`; raises `ConfigError` for tables that we have no equal of."""
    if name not in _SCHEDULES:
        raise ConfigError(f"{place}.beta_schedule={name!r} is not supported; only {' and '.join(_SCHEDULES)} are.")
    if name == "linear" and num_timesteps != 1000:
        raise ConfigError(f"{place}: a linear schedule of {num_timesteps} steps is not supported; only of 1000.")
    return {"schedule": name, "num_timesteps": num_timesteps}


def version_number(version: str) -> tuple[int, ...]:
    """ "1.15.6" as (1, 15, 6); raises `CheckpointError` for text that is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise CheckpointError(f"version={version!r} is no version of DALLE2-pytorch; it looks like '1.15.6'.")
    return tuple(int(part or 0) for part in found.groups())


# Options that versions up to 1.3 did not have.
_SINCE_V1_1 = ("self_cond", "cosine_sim_self_attn", "cosine_sim_cross_attn", "resnet_weight_standardization")

# Our field, their option and its default in the network's constructor.
_NETWORK = {
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

_TRAINING = (
    "loss_type",
    "image_cond_drop_prob",
    "text_cond_drop_prob",
    "vb_loss_weight",
    "p2_loss_weight_gamma",
    "p2_loss_weight_k",
    "random_crop_sizes",
    "use_blur_for_lowres_cond",
    "lowres_downsample_first",
    "blur_prob",
    "blur_sigma",
    "blur_kernel_size",
)
_SAMPLING = (
    "sample_timesteps",
    "ddim_sampling_eta",
    "clip_denoised",
    "clip_x_start",
    "use_dynamic_thres",
    "dynamic_thres_percentile",
    "lowres_noise_sample_level",
)


def num_unets(given: Mapping[str, Any]) -> int:
    """How many U-Nets the decoder has, in a whole training config or its section "decoder"."""
    return len(_unets(Options(given.get("decoder", given), "decoder")))


def unet_config(given: Mapping[str, Any], index: int, *, old: bool) -> tuple[Dalle2UNetConfig, dict[str, str]]:
    """The config of U-Net `index`, and the options that do not bear on it, with reasons; `old` is up to 1.3."""
    decoder = Options(given.get("decoder", given), "decoder")
    unets = _unets(decoder)
    unet = Options(unets[index], f"decoder.unets.{index}")
    fields = _decided_by_decoder(decoder, index, len(unets))
    fields |= _conditioning(unet, reads=fields.pop("reads"), first=index == 0)
    if old:
        for name in _SINCE_V1_1:
            unet.only(name, False, "versions up to 1.3 do not know it")
        fields |= V1_1_UNET
    fields |= _network(unet, old)
    unet.finish()
    decoder.finish()
    return load_config(Dalle2UNetConfig, fields), decoder.unread | unet.unread


def _unets(decoder: Options) -> list[Any]:
    unets = decoder.need("unets", None)
    if not isinstance(unets, list | tuple) or not unets:
        raise ConfigError("decoder.unets must be a list of the options of each U-Net.")
    return list(unets)


def _decided_by_decoder(decoder: Options, index: int, num: int) -> dict[str, Any]:
    decoder.only("vae", None, "we have no latent diffusion")
    decoder.only("predict_x_start_for_latent_diffusion", False, "we have no latent diffusion")
    decoder.only("learned_variance_constrain_frac", False, "our samplers read a fraction in [-1, 1]")
    decoder.leave(_TRAINING, "used in training alone")
    decoder.leave(_SAMPLING, "a setting of sampling; give it there")
    decoder.leave(("clip", "clip_adapter_overrides"), "belongs to CLIP")
    decoder.leave(("auto_normalize_img",), "pixels are in [-1, 1] here")
    schedule = decoder.each("beta_schedule", None, num)[index] or _default_schedule(index, num)
    predicts_v = decoder.each("predict_v", False, num)[index]
    predicts_x0 = decoder.each("predict_x_start", False, num)[index]
    noised = _padded(decoder.some("use_noise_for_lowres_cond", False), num - 1)
    return {
        "reads": not decoder.take("unconditional", False),
        "image_size": _image_sizes(decoder, num)[index],
        "in_channels": decoder.take("channels", 3),
        "learned_variance": _padded(decoder.some("learned_variance", True), num)[index],
        "low_res": index > 0,
        "low_res_noise": index > 0 and noised[index - num],
        "prediction_type": "v" if predicts_v else "x0" if predicts_x0 else "eps",
    } | schedule_options(schedule, decoder.take("timesteps", 1000), "decoder")


def _default_schedule(index: int, num: int) -> str:
    return "linear" if num > 1 and index == num - 1 else "cosine"


def _padded(values: tuple[bool, ...], num: int) -> tuple[bool, ...]:
    """What is not said is off."""
    return values + (False,) * (num - len(values))


def _image_sizes(decoder: Options, num: int) -> list[int]:
    one: Any = decoder.take("image_size", None)
    several: Any = decoder.take("image_sizes", None)
    if (one is None) == (several is None):
        raise ConfigError("decoder needs one of image_size and image_sizes, and not both.")
    if several is not None:
        check_kind(decoder.place, "image_sizes", several, (64,))
    sizes = [one] if several is None else sorted(set(several))
    if len(sizes) != num:
        raise ConfigError(f"decoder.image_sizes has {len(sizes)} different sizes; there are {num} U-Nets.")
    return sizes


def _conditioning(unet: Options, *, reads: bool, first: bool) -> dict[str, Any]:
    decided = ("channels", "channels_out", "lowres_cond", "lowres_noise_cond", "cond_on_image_embeds")
    unet.leave(decided, "the decoder decides it")
    reads_text = reads and unet.take("cond_on_text_encodings", False)
    embedding_dim, text_dim = unet.take("image_embed_dim", 0), unet.take("text_embed_dim", 0)
    for wanted, size, name in (
        (reads and first, embedding_dim, "image_embed_dim"),
        (reads_text, text_dim, "text_embed_dim"),
    ):
        if wanted and not size:
            raise ConfigError(f"{unet.place} has no {name!r}, which this U-Net needs.")
    return {"embedding_dim": embedding_dim if reads and first else 0, "text_dim": text_dim if reads_text else 0}


def _network(unet: Options, old: bool) -> dict[str, Any]:
    base = unet.need("dim", 1)
    mults = tuple(unet.take("dim_mults", (1, 2, 4, 8)))
    unet.only("init_dim", base, "their last block takes dim channels")
    unet.only("combine_upsample_fmaps", False, "it resizes by a method of its own")
    unet.leave(("out_dim", "attend_at_middle"), "never read by DALLE2-pytorch")
    unet.leave(("checkpoint_during_training",), "used in training alone")
    return {ours: unet.take(name, default) for ours, (name, default) in _NETWORK.items()} | {
        "base_channels": base,
        "channel_mult": mults,
        "num_res_blocks": unet.each("num_resnet_blocks", 2, len(mults)),
        "num_groups": unet.each("resnet_groups", 8, len(mults)),
        "self_attention": tuple(bool(on) for on in unet.each("self_attn", False, len(mults))),
        "context_dim": unet.take("cond_dim", base),
        "stem_kernels": _stem_kernels(unet),
        "downsample": _downsample(unet, old),
        "upsample": "pixel_shuffle" if unet.take("pixel_shuffle_upsample", True) else "nearest",
    }


def _stem_kernels(unet: Options) -> tuple[int, ...]:
    several, one = unet.take("init_cross_embed_kernel_sizes", (3, 7, 15)), unet.take("init_conv_kernel_size", 7)
    if not unet.take("init_cross_embed", True):
        return (one,)
    if len(several) < 2:
        raise ConfigError(
            f"{unet.place}.init_cross_embed_kernel_sizes={several} is not supported; only two or more are."
        )
    return tuple(sorted(several))


def _downsample(unet: Options, old: bool) -> str:
    if unet.take("cross_embed_downsample", False):
        return "cross_embed"
    return "conv" if old else "unshuffle"


# Our field, their option and its default in the network's constructor.
_PRIOR_NETWORK = {
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

_PRIOR_TRAINING = (
    "loss_type",
    "cond_drop_prob",
    "text_cond_drop_prob",
    "image_cond_drop_prob",
    "training_clamp_l2norm",
)


def prior_config(
    given: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Dalle2PriorConfig, float, dict[str, str]]:
    """The config, the factor of unit embeddings, and the options that do not bear on the network, with reasons.

    `given` is a whole training config or its section "prior"; `changes` are fields that a version differs in.
    """
    prior = Options(given.get("prior", given), "prior")
    net = Options(prior.need("net", {}), "prior.net")
    dim = net.need("dim", 1)
    fields = {ours: net.take(name, default) for ours, (name, default) in _PRIOR_NETWORK.items()}
    fields |= {"embedding_dim": dim, "depth": net.need("depth", 1)} | _diffusion(prior, dim)
    scale = float(prior.take("image_embed_scale", dim**0.5))
    if scale <= 0:
        raise ConfigError(f"prior.image_embed_scale={scale} must be positive.")
    net.finish()
    prior.finish()
    return load_config(Dalle2PriorConfig, fields | dict(changes)), scale, prior.unread


def _diffusion(prior: Options, dim: int) -> dict[str, Any]:
    prior.only("image_embed_dim", dim, "the network's dim is another")
    for name in ("sampling_clamp_l2norm", "sampling_final_clamp_l2norm", "init_image_embed_l2norm"):
        prior.only(name, False, "our samplers do not project to the sphere")
    prior.leave(_PRIOR_TRAINING, "used in training alone")
    prior.leave(("sample_timesteps",), "a setting of sampling; give num_steps instead")
    prior.leave(("clip", "image_size", "image_channels", "clip_adapter_overrides"), "belongs to CLIP")
    predicts_v, predicts_x0 = prior.take("predict_v", False), prior.take("predict_x_start", True)
    return {
        "prediction_type": "v" if predicts_v else "x0" if predicts_x0 else "eps",
        "reads_text_hidden": prior.take("condition_on_text_encodings", True),
    } | schedule_options(prior.take("beta_schedule", "cosine"), prior.take("timesteps", 1000), "prior")


def sort_tensors(
    tensors: Mapping[str, LazyTensor], prefixes: Iterable[str], hallmark: str, reasons: Mapping[str, str]
) -> tuple[dict[str, LazyTensor], dict[str, str], str]:
    """The network's tensors without their prefix, reasons for dropping the others, and the prefix that was found.

    The prefix is the first of `prefixes` under which there is a tensor called `hallmark`; `reasons` is keyed by the
    start of a name. Raises `CheckpointError` where there is no network, and for a name that no reason covers.
    """
    prefix = next((prefix for prefix in prefixes if prefix + hallmark in tensors), None)
    if prefix is None:
        wanted = " or ".join(repr(prefix + hallmark) for prefix in prefixes)
        raise CheckpointError(f"these are no weights of DALLE2-pytorch: no tensor is called {wanted}.")
    network, dropped = {}, {}
    for name, tensor in tensors.items():
        reason = next((reason for start, reason in reasons.items() if name.startswith(start)), None)
        if reason is not None:
            dropped[name] = reason
        elif name.startswith(prefix):
            network[name.removeprefix(prefix)] = tensor
        else:
            raise CheckpointError(f"tensor {name!r} belongs to no part of DALLE2-pytorch that is known here.")
    return network, dropped, prefix


def check_tensors(tensors: Mapping[str, LazyTensor], build: Callable[[], nn.Module]) -> None:
    """Raise `CheckpointError` unless names and shapes are those of the network that `build` makes; nothing is computed.

    One line: the first tensor that is missing, left over or of another shape.
    """
    expected = shapes_of(build, "DALLE2-pytorch")
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointError(f"tensor {name!r} of shape {shape} is missing; the config asks for it.")
        if (found := tensors[name].shape) != shape:
            raise CheckpointError(f"tensor {name!r} has shape {found}, but by the config it is {shape}.")
    for name in tensors:
        if name not in expected:
            raise CheckpointError(f"tensor {name!r} is left over: by the config there is no such weight.")


def check_schedule(tensors: Mapping[str, LazyTensor], name: str, schedule: str, num_timesteps: int) -> None:
    """Raise `CheckpointError` if the table called `name` is there and not that of `schedule`."""
    if name not in tensors:
        return
    found, expected = tensors[name].read().double(), make_schedule(schedule, num_timesteps).alphas_cumprod
    if found.shape != expected.shape or not torch.allclose(found.cpu(), expected, rtol=0, atol=1e-5):
        raise CheckpointError(
            f"tensor {name!r} is not the table of the config's {schedule} schedule of {num_timesteps} steps."
        )
