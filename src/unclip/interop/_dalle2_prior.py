"""Options of a DALLE2-pytorch prior, as our config of it. Knows no tensors."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.errors import ConfigError
from unclip.interop._dalle2_options import schedule_options
from unclip.interop.options import Options
from unclip.models.dalle2_pytorch import Dalle2PriorConfig

__all__ = ["prior_config"]

# Our field, their option and its default in the network's constructor.
_NETWORK = {
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

_TRAINING = ("loss_type", "cond_drop_prob", "text_cond_drop_prob", "image_cond_drop_prob", "training_clamp_l2norm")


def prior_config(
    given: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Dalle2PriorConfig, float, dict[str, str]]:
    """The config, the factor of unit embeddings, and the options that do not bear on the network, with reasons.

    `given` is a whole training config or its section "prior"; `changes` are fields that a version differs in.
    """
    prior = Options(given.get("prior", given), "prior")
    net = Options(prior.need("net", {}), "prior.net")
    dim = net.need("dim", 1)
    fields = {ours: net.take(name, default) for ours, (name, default) in _NETWORK.items()}
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
    prior.leave(_TRAINING, "used in training alone")
    prior.leave(("sample_timesteps",), "a setting of sampling; give num_steps instead")
    prior.leave(("clip", "image_size", "image_channels", "clip_adapter_overrides"), "belongs to CLIP")
    predicts_v, predicts_x0 = prior.take("predict_v", False), prior.take("predict_x_start", True)
    return {
        "prediction_type": "v" if predicts_v else "x0" if predicts_x0 else "eps",
        "reads_text_hidden": prior.take("condition_on_text_encodings", True),
    } | schedule_options(prior.take("beta_schedule", "cosine"), prior.take("timesteps", 1000), "prior")
