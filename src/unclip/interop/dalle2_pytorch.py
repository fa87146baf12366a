"""Weights of DALLE2-pytorch, 1.15 and v1.1 (the released ones), as configs and tensors of our networks.

It knows names, shapes and versions; it opens no files, and reads no tensors but tables of known numbers. Names are kept
but for a few: the prefix of the network goes, and what `_PRIOR_NAMES` and `_UNET_NAMES` list is renamed. Every other
tensor is in `Imported.dropped`, with the reason.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from unclip.checkpoint import LazyTensor
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError
from unclip.interop._dalle2_decoder import num_unets, unet_config
from unclip.interop._dalle2_options import version_number
from unclip.interop._dalle2_prior import prior_config
from unclip.interop._dalle2_tensors import check_schedule, check_tensors, sort_tensors
from unclip.models.dalle2_pytorch import V1_1_PRIOR, Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig

__all__ = ["Imported", "decoder_from_checkpoint", "prior_from_checkpoint"]

C = TypeVar("C", bound=Config)


@dataclass(frozen=True, eq=False)
class Imported(Generic[C]):
    """A network's config and tensors, and what was left behind."""

    config: C
    """What to build the network with."""
    tensors: dict[str, LazyTensor]
    """Its state dict, whole: it loads strictly."""
    dropped: dict[str, str]
    """Names of tensors that the network has no place for, each with the reason."""
    unread: dict[str, str]
    """Options that do not bear on the network, each with the reason."""


# v1.1 calls the learned padding of the text what later is the absent text embedding, in the singular.
_PRIOR_NAMES = {r"^null_text_embed$": "null_text_encodings"}

# Wrappers of attention go, in all versions; the parts of a level have names here and numbers there.
_UNET_NAMES = {
    r"\.fn(?=\.)": "",
    r"^(downs\.\d+)\.0\.": r"\1.pre.",
    r"^(downs\.\d+)\.1\.": r"\1.init.",
    r"^(downs\.\d+)\.2\.": r"\1.blocks.",
    r"^(downs\.\d+)\.3\.": r"\1.attention.",
    r"^(downs\.\d+)\.4\.": r"\1.post.",
    r"^(ups\.\d+)\.0\.": r"\1.init.",
    r"^(ups\.\d+)\.1\.": r"\1.blocks.",
    r"^(ups\.\d+)\.2\.": r"\1.attention.",
    r"^(ups\.\d+)\.3\.": r"\1.upsample.",
    r"^mid_(block\d)\.": r"middle.\1.",
    r"^mid_attn\.": "middle.attention.",
}

_SCHEDULE = "tables of the noise schedule, which the config names"
_CLIP = "CLIP is a model of its own"
_AVERAGE = "the averaged weights are taken instead"
_PRIOR_DROPPED = {"noise_scheduler.": _SCHEDULE, "clip.": _CLIP}
_AVERAGING = {"initted": _AVERAGE, "step": _AVERAGE, "online_model.": _AVERAGE}


def prior_from_checkpoint(
    tensors: Mapping[str, LazyTensor], config: Mapping[str, Any], version: str | None = None
) -> Imported[Dalle2PriorConfig]:
    """Config and tensors of the prior in a checkpoint of DALLE2-pytorch.

    `tensors`: a DiffusionPrior's state dict ("net." and so on), that of an averaged one ("ema_model.net."), or the
    network's own. `config`: the training config or its section "prior". `version`: of the code that made them, where
    the checkpoint says; else names tell. Raises `CheckpointError` for weights that are foreign, of a version in between
    or not those of the config, and `ConfigError` for options that are unknown or not supported.
    """
    found, dropped, prefix = sort_tensors(
        tensors, ("net.", "ema_model.net.", ""), "learned_query", _under("ema_model.", _PRIOR_DROPPED) | _AVERAGING
    )
    old = _is_old("null_text_embed" in found, version, since=(1, 10, 4))
    fields, scale, unread = prior_config(config, V1_1_PRIOR if old else {})
    kept, constants = _without_rotations(found, prefix)
    renamed = _rename(kept, _PRIOR_NAMES)
    renamed["embedding_mean"] = LazyTensor.of(torch.zeros(fields.embedding_dim))
    renamed["embedding_std"] = LazyTensor.of(torch.full((fields.embedding_dim,), 1 / scale))
    check_tensors(renamed, lambda: Dalle2Prior(fields))
    check_schedule(tensors, "noise_scheduler.alphas_cumprod", fields.schedule, fields.num_timesteps)
    return Imported(fields, renamed, dropped | constants, unread)


def decoder_from_checkpoint(
    tensors: Mapping[str, LazyTensor], config: Mapping[str, Any], version: str | None = None, unet: int = 0
) -> Imported[Dalle2UNetConfig]:
    """Config and tensors of U-Net `unet` in a checkpoint of DALLE2-pytorch: 0 is the decoder, then come upsamplers.

    `tensors`: a Decoder's state dict ("unets.0." and so on), that of the averaged U-Nets ("0.ema_model."), or the
    network's own. `config`: the training config or its section "decoder". `version`, and what is raised, as for the
    prior; `ConfigError` also where there is no such U-Net.
    """
    num = num_unets(config)
    if not 0 <= unet < num:
        raise ConfigError(f"unet={unet} is not there; the decoder has {num}, counted from 0.")
    prefixes = (f"unets.{unet}.", f"{unet}.ema_model.", "")
    found, dropped, _ = sort_tensors(tensors, prefixes, "to_time_hiddens.1.weight", _decoder_dropped(unet, num))
    old = _is_old(_looks_old(found, version), version, since=(1, 10, 0))
    fields, unread = unet_config(config, unet, old=old)
    renamed = _rename(found, _UNET_NAMES)
    check_tensors(renamed, lambda: Dalle2UNet(fields))
    check_schedule(tensors, f"noise_schedulers.{unet}.alphas_cumprod", fields.schedule, fields.num_timesteps)
    return Imported(fields, renamed, dropped, unread)


def _decoder_dropped(unet: int, num: int) -> dict[str, str]:
    reasons = {
        "noise_schedulers.": _SCHEDULE,
        "lowres_conds.": "tables of the noise on the small picture",
        "clip.": _CLIP,
    }
    reasons |= {f"{unet}.{part}": reason for part, reason in _AVERAGING.items()}
    for other in set(range(num)) - {unet}:
        reasons |= {f"{start}{other}.": f"belongs to U-Net {other}" for start in ("unets.", "")}
    return reasons


# Before 1.14 cross-attention was wrapped; before 1.10 a convolution of 4 x 4 halved the size.
def _looks_old(tensors: Mapping[str, LazyTensor], version: str | None) -> bool:
    if not any(".cross_attn.fn." in name for name in tensors):
        return False
    if any(re.match(r"downs\.\d+\.[04]\.1\.weight", name) for name in tensors):
        return False
    if any(re.match(r"downs\.\d+\.[04]\.weight", name) and value.shape[-1] == 4 for name, value in tensors.items()):
        return True
    if version is None:
        raise CheckpointError(
            "the names do not tell the version of DALLE2-pytorch, before 1.4 or from 1.10; pass version."
        )
    return version_number(version) < (1, 4)


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


def _rename(tensors: Mapping[str, LazyTensor], names: Mapping[str, str]) -> dict[str, LazyTensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _without_rotations(tensors: Mapping[str, LazyTensor], prefix: str) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    kept, dropped = {}, {}
    for name, tensor in tensors.items():
        if not name.endswith("rotary_emb.freqs"):
            kept[name] = tensor
            continue
        (length,) = tensor.shape
        expected = 10_000 ** (-torch.arange(length) / length)
        if not torch.allclose(tensor.read().float().cpu(), expected, rtol=1e-2):
            raise CheckpointError(
                f"tensor {name!r} holds rotations that are not the usual ones; they are computed here."
            )
        dropped[prefix + name] = "frequencies of the rotation, which the network computes"
    return kept, dropped
