"""Files of DALLE2-pytorch: checkpoints and their options."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.dalle2 import (
    check_schedule,
    check_tensors,
    num_unets,
    prior_config,
    sort_tensors,
    unet_config,
    version_number,
)
from unclip.interop.rules import ForeignModel, ForeignNetwork
from unclip.interop.sources import ForeignFile, open_weights, read_json
from unclip.models.dalle2_pytorch import V1_1_PRIOR, Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig

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


class _Kind(NamedTuple):
    hallmark: str
    """How the name of a tensor ends that no other network has."""
    network: str
    translate: Callable[..., Imported[Any]]
    num_steps: int
    """The paper's, for configs that do not say."""
    guidance_scale: float
    sampler: str
    """What they do in fewer steps than they trained with."""


# Guidance is that of LAION, whose prior never learned a null to lead away from.
_KINDS = {
    "prior": _Kind("learned_query", "Dalle2Prior", prior_from_checkpoint, 64, 1.0, "ddpm"),
    "decoder": _Kind("to_time_hiddens.1.weight", "Dalle2UNet", decoder_from_checkpoint, 250, 1.7, "ddim"),
}
# Averaged weights first; a bare state dict has no container.
_CONTAINERS = ("ema_model", "ema", "model")


def import_dalle2(file: Path, config_json: Path | None = None) -> ForeignModel:
    """The prior, or the first U-Net of the decoder, in the checkpoint of a trainer or tracker, or a bare state dict.

    Its config is in `config_json`, else in the checkpoint, else in a JSON beside it called `<stem>_config`, `<stem>`,
    `prior_config` or `decoder_config`, or `config`. Raises `CheckpointError` for a file that is damaged, something else
    or without a config, and for tensors that do not fit; `ConfigError` for options that we have no equal of.
    """
    found = open_weights(file)
    stage, kind = _recognise(file, found)
    config = _config(file, found, stage, config_json)
    container = next((name for name in _CONTAINERS if found.under(name)), None)
    tensors = found.under(container) if container else found.tensors
    try:
        imported = kind.translate(tensors, config, found.values.get("version"))
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{file}: {error}") from None
    weights = NetworkWeights(kind.network, imported.config, imported.tensors, str(file))
    beside = {name.split(".")[0] for name in found.tensors} - {container} if container else set()
    left = dict.fromkeys(sorted(beside), f"the weights are taken from {container!r}")
    network = ForeignNetwork(weights, imported.dropped | imported.unread | left)
    sampling = _sampling(kind, config.get(stage, config), imported.config.num_timesteps)
    return ForeignModel.of(f"a {stage} of DALLE2-pytorch", {stage: network}, {}, {stage: sampling})


def _recognise(file: Path, found: ForeignFile) -> tuple[str, _Kind]:
    for stage, kind in _KINDS.items():
        if any(name.endswith(kind.hallmark) for name in found.tensors):
            return stage, kind
    first = next(iter(found.tensors))
    raise CheckpointError(f"{file} holds no prior and no decoder of DALLE2-pytorch; its first tensor is {first!r}.")


def _config(file: Path, found: ForeignFile, stage: str, given: Path | None) -> Mapping[str, Any]:
    inside = found.values.get("config")
    if given is None and isinstance(inside, Mapping):
        return inside
    names = (f"{file.stem}_config.json", f"{file.stem}.json", f"{stage}_config.json", "config.json")
    path = given or next((file.parent / name for name in names if (file.parent / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{file} does not say its shape; put the JSON it was trained with beside it: {names[0]}.")
    return read_json(path)


def _sampling(kind: _Kind, config: Mapping[str, Any], num_timesteps: int) -> dict[str, Any]:
    asked = config.get("sample_timesteps")
    first = asked[0] if isinstance(asked, list | tuple) else asked
    num_steps = min(first or kind.num_steps, num_timesteps)
    return {"num_steps": num_steps, "guidance_scale": kind.guidance_scale, "sampler": kind.sampler}
