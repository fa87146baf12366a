"""Weights of DALLE2-pytorch, 1.15 and v1.1 (the released ones), as configs and tensors of our networks.

It knows names, shapes and versions; it reads no files. Names are kept but for a few: the prefix of the network goes,
and what `_PRIOR_NAMES` and `_UNET_NAMES` list is renamed. Every other tensor is in `Imported.dropped`, with the reason.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from unclip.config import Config
from unclip.errors import CheckpointError
from unclip.interop._dalle2_options import version_number
from unclip.interop._dalle2_prior import V1_1_PRIOR, prior_config
from unclip.interop._dalle2_tensors import check_schedule, check_tensors, sort_tensors
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig

__all__ = ["Imported", "prior_from_checkpoint"]

C = TypeVar("C", bound=Config)


@dataclass(frozen=True, eq=False)
class Imported(Generic[C]):
    """A network's config and tensors, and what was left behind."""

    config: C
    """What to build the network with."""
    tensors: dict[str, Tensor]
    """Its state dict, whole: it loads strictly."""
    dropped: dict[str, str]
    """Names of tensors that the network has no place for, each with the reason."""
    unread: dict[str, str]
    """Options that do not bear on the network, each with the reason."""


# v1.1 calls the learned padding of the text what later is the absent text embedding, in the singular.
_PRIOR_NAMES = {r"^null_text_embed$": "null_text_encodings"}

_PRIOR_DROPPED = {
    "noise_scheduler.": "tables of the noise schedule, which the config names",
    "clip.": "CLIP is a model of its own",
}


def prior_from_checkpoint(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], version: str | None = None
) -> Imported[Dalle2PriorConfig]:
    """Config and tensors of the prior in a checkpoint of DALLE2-pytorch.

    `tensors`: a DiffusionPrior's state dict ("net." and so on), that of an averaged one ("ema_model.net."), or the
    network's own. `config`: the training config or its section "prior". `version`: of the code that made them, where
    the checkpoint says; else names tell. Raises `CheckpointError` for weights that are foreign, of a version in between
    or not those of the config, and `ConfigError` for options that are unknown or not supported.
    """
    found, dropped, prefix = sort_tensors(
        tensors, ("net.", "ema_model.net.", ""), "learned_query", _under("ema_model.", _PRIOR_DROPPED)
    )
    old = _is_old("null_text_embed" in found, version, since=(1, 10, 4))
    fields, scale, unread = prior_config(config, V1_1_PRIOR if old else {})
    kept, constants = _without_rotations(found, prefix)
    renamed = _rename(kept, _PRIOR_NAMES)
    renamed["embedding_mean"] = torch.zeros(fields.embedding_dim)
    renamed["embedding_std"] = torch.full((fields.embedding_dim,), 1 / scale)
    check_tensors(renamed, lambda: Dalle2Prior(fields))
    check_schedule(tensors, "noise_scheduler.alphas_cumprod", fields.schedule, fields.num_timesteps)
    return Imported(fields, renamed, dropped | constants, unread)


def _under(prefix: str, reasons: Mapping[str, str]) -> dict[str, str]:
    return dict(reasons) | {prefix + start: reason for start, reason in reasons.items()}


def _is_old(looks_old: bool, version: str | None, since: tuple[int, ...]) -> bool:
    if version is None:
        return looks_old
    number = version_number(version)
    if looks_old != (number < since) or not ((0, 23, 10) <= number < (1, 4) or number >= since):
        last = ".".join(map(str, since))
        raise CheckpointError(
            f"version={version} is not supported with these names; 0.23.10 to 1.3 and {last} to 1.15.6 are, "
            "and the others compute something else again."
        )
    return looks_old


def _rename(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _without_rotations(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    kept, dropped = {}, {}
    for name, tensor in tensors.items():
        if not name.endswith("rotary_emb.freqs"):
            kept[name] = tensor
            continue
        expected = 10_000 ** (-torch.arange(len(tensor)) / len(tensor))
        if not torch.allclose(tensor.float().cpu(), expected, rtol=1e-2):
            raise CheckpointError(
                f"tensor {name!r} holds rotations that are not the usual ones; they are computed here."
            )
        dropped[prefix + name] = "frequencies of the rotation, which the network computes"
    return kept, dropped
