"""The prior's config in diffusers' words and back, and how options are read from such configs. Knows no tensors."""

from collections.abc import Mapping
from typing import Any

from unclip.config import load_config
from unclip.errors import ConfigError, did_you_mean
from unclip.models import PriorConfig

__all__ = ["prior_config", "prior_config_theirs", "read_options", "require"]

_PRIOR = "PriorTransformer"
_FIXED = {
    "additional_embeddings": 4,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}
_DEFAULTS = {
    "num_attention_heads": 32,
    "attention_head_dim": 64,
    "num_layers": 20,
    "embedding_dim": 768,
    "num_embeddings": 77,
    "dropout": 0.0,
    "time_embed_dim": None,
    "embedding_proj_dim": None,
    "clip_embed_dim": None,
}


def prior_config(theirs: Mapping[str, Any]) -> PriorConfig:
    """Ours from the config of diffusers' `PriorTransformer`; raises `ConfigError` for options that ours has not."""
    found = read_options(theirs, _PRIOR, _FIXED, _DEFAULTS)
    width = found["num_attention_heads"] * found["attention_head_dim"]
    for name, allowed in {"time_embed_dim": width, "clip_embed_dim": found["embedding_dim"]}.items():
        require(_PRIOR, name, found[name] or allowed, allowed)
    fields = {
        "embedding_dim": found["embedding_dim"],
        "text_embedding_dim": found["embedding_proj_dim"],
        "num_text_tokens": found["num_embeddings"],
        "width": width,
        "depth": found["num_layers"],
        "num_heads": found["num_attention_heads"],
        "dropout": found["dropout"],
    }
    return load_config(PriorConfig, fields)


def prior_config_theirs(ours: PriorConfig) -> dict[str, Any]:
    """The config of diffusers' `PriorTransformer` from ours; raises `ConfigError` for fields that theirs has not."""
    require("PriorConfig", "ff_mult", ours.ff_mult, 4)
    require("PriorConfig", "text_dim", ours.text_dim or ours.embedding_dim, ours.embedding_dim)
    if not ours.num_text_tokens:
        raise ConfigError("PriorConfig: num_text_tokens=0 is not supported: diffusers' prior needs text tokens.")
    return {
        "_class_name": _PRIOR,
        **_FIXED,
        **_DEFAULTS,
        "num_attention_heads": ours.num_heads,
        "attention_head_dim": ours.width // ours.num_heads,
        "num_layers": ours.depth,
        "embedding_dim": ours.embedding_dim,
        "num_embeddings": ours.num_text_tokens,
        "dropout": ours.dropout,
        "embedding_proj_dim": ours.text_embedding_dim,
    }


def read_options(
    theirs: Mapping[str, Any], kind: str, fixed: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a config by `kind`, completed by their library's `defaults`.

    Raises `ConfigError` for an option of `fixed` with another value, and for one that neither table knows; names that
    start with an underscore say who wrote the config.
    """
    found = {**defaults, **{name: value for name, value in theirs.items() if not name.startswith("_")}}
    for name, value in found.items():
        if name in fixed:
            require(kind, name, value, fixed[name])
        elif name not in defaults:
            raise ConfigError(
                f"{kind}: option {name}={value!r} is unknown; {did_you_mean(name, {**fixed, **defaults})}"
            )
    return found


def require(kind: str, name: str, value: object, allowed: object) -> None:
    """Raise `ConfigError` for an option that has not the one value that is allowed."""
    if value != allowed:
        raise ConfigError(f"{kind}: {name}={value!r} is not supported; only {allowed!r} is.")
