"""DALLE2-pytorch's checkpoints: versions, names of tensors, and files."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unclip.checkpoint import LazyTensor
from unclip.diffusion import make_schedule
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.dalle2 import num_unets, prior_config, unet_config
from unclip.interop.rules import ForeignModel, ForeignNetwork, Tensors, foreign_network, naming
from unclip.interop.sources import open_weights, read_json
from unclip.models.dalle2_pytorch import V1_1_PRIOR, Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig

# v1.1 calls the learned padding of the text what later is the absent text embedding, in the singular.
_PRIOR_NAMES = {r"^null_text_embed$": "null_text_encodings"}
# Wrappers of attention go, in all versions; the parts of a level have names here and numbers there.
_DOWN, _UP = ("pre", "init", "blocks", "attention", "post"), ("init", "blocks", "attention", "upsample")
_UNET_NAMES = {
    r"\.fn(?=\.)": "",
    **{rf"^(downs\.\d+)\.{number}\.": rf"\1.{part}." for number, part in enumerate(_DOWN)},
    **{rf"^(ups\.\d+)\.{number}\.": rf"\1.{part}." for number, part in enumerate(_UP)},
    r"^mid_(block\d)\.": r"middle.\1.",
    r"^mid_attn\.": "middle.attention.",
}
_SCHEDULE = "tables of the noise schedule, which the config names"
_CLIP = "CLIP is a model of its own"
_AVERAGING = dict.fromkeys(("initted", "step", "online_model."), "the averaged weights are taken instead")


def prior_from_checkpoint(tensors: Tensors, config: Mapping[str, Any], version: str | None = None) -> ForeignNetwork:
    """Import the prior in a checkpoint of DALLE2-pytorch.

    `tensors`: a DiffusionPrior's state dict ("net." and so on), that of an averaged one ("ema_model.net."), or the
    network's own. `config`: the training config or its section "prior". `version`: of the code that made them, if the
    checkpoint has it; else names tell. Raises `CheckpointError` for weights of another library, of a version in between
    or not those of the config, and `ConfigError` for options that are unknown or not supported.
    """
    reasons = {"noise_scheduler.": _SCHEDULE, "clip.": _CLIP} | _AVERAGING
    reasons |= {f"ema_model.{start}": reason for start, reason in reasons.items()}
    network, dropped, prefix = _sort(tensors, ("net.", "ema_model.net.", ""), "learned_query", reasons)
    old = _is_old("null_text_embed" in network, version, since=(1, 10, 4))
    ours, scale, unread = prior_config(config, V1_1_PRIOR if old else {})
    for name in [name for name in network if name.endswith("rotary_emb.freqs")]:
        frequencies = network.pop(name).read().float().cpu().flatten()
        if not torch.allclose(frequencies, 10_000 ** (-torch.arange(len(frequencies)) / len(frequencies)), rtol=1e-2):
            raise CheckpointError(
                f"tensor {name!r} holds rotations that are not the usual ones; they are computed here."
            )
        dropped[prefix + name] = "frequencies of the rotation, which the network computes"
    dim, renamed = ours.embedding_dim, _rename(network, _PRIOR_NAMES)
    constants = {"embedding_mean": torch.zeros(dim), "embedding_std": torch.full((dim,), 1 / scale)}
    imported = foreign_network(Dalle2Prior, ours, renamed, None, "DALLE2-pytorch", constants=constants)
    _check_schedule(tensors, "noise_scheduler.alphas_cumprod", ours)
    return imported.drop(dropped | unread)


def decoder_from_checkpoint(
    tensors: Tensors, config: Mapping[str, Any], version: str | None = None, *, unet: int = 0
) -> ForeignNetwork:
    """Import U-Net `unet` of a checkpoint of DALLE2-pytorch: 0 is the decoder, then come upsamplers.

    `tensors`: a Decoder's state dict ("unets.0." and so on), that of the averaged U-Nets ("0.ema_model."), or the
    network's own. `config`: the training config or its section "decoder". `version` and errors as for the prior;
    `ConfigError` also if there is no such U-Net.
    """
    num = num_unets(config)
    if not 0 <= unet < num:
        raise ConfigError(f"unet={unet} is not there; the decoder has {num}, counted from 0.")
    low_res = "tables of the noise on the small picture"
    reasons = {"noise_schedulers.": _SCHEDULE, "lowres_conds.": low_res, "clip.": _CLIP}
    reasons |= {f"{unet}.{part}": reason for part, reason in _AVERAGING.items()}
    for other in set(range(num)) - {unet}:
        reasons |= {f"{start}{other}.": f"belongs to U-Net {other}" for start in ("unets.", "")}
    prefixes = (f"unets.{unet}.", f"{unet}.ema_model.", "")
    network, dropped, _ = _sort(tensors, prefixes, "to_time_hiddens.1.weight", reasons)
    old = _is_old(_looks_old(network, version), version, since=(1, 10, 0))
    ours, unread = unet_config(config, unet, old=old)
    imported = foreign_network(Dalle2UNet, ours, _rename(network, _UNET_NAMES), None, "DALLE2-pytorch")
    _check_schedule(tensors, f"noise_schedulers.{unet}.alphas_cumprod", ours)
    return imported.drop(dropped | unread)


def _sort(
    tensors: Tensors, prefixes: Iterable[str], hallmark: str, reasons: Mapping[str, str]
) -> tuple[dict[str, LazyTensor], dict[str, str], str]:
    """Return the network's tensors without their prefix, reasons for dropping the others, and the prefix.

    The prefix is the first of `prefixes` under which there is a tensor called `hallmark`; `reasons` is keyed by the
    start of a name. Raises `CheckpointError` if there is no network, and for a name without a reason.
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


def _rename(tensors: Tensors, names: Mapping[str, str]) -> dict[str, LazyTensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


# Before 1.14 cross-attention was wrapped; before 1.10 a convolution of 4 x 4 halved the size.
def _looks_old(tensors: Tensors, version: str | None) -> bool:
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
    return _number(version) < (1, 4)


def _is_old(looks_old: bool, version: str | None, since: tuple[int, ...]) -> bool:
    if version is None:
        return looks_old
    number = _number(version)
    if looks_old != (number < since) or not ((0, 23, 10) <= number < (1, 4) or number >= since):
        last = ".".join(map(str, since))
        raise CheckpointError(
            f"version={version} is not supported with these names; 0.23.10 to 1.3 and {last} to 1.15.6 are, "
            "and the others compute something else again."
        )
    return looks_old


def _number(version: str) -> tuple[int, ...]:
    """Parse "1.15.6" as (1, 15, 6); raises `CheckpointError` for text that is no version."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        raise CheckpointError(f"version={version!r} is no version of DALLE2-pytorch; it looks like '1.15.6'.")
    return tuple(int(part or 0) for part in match.groups())


def _check_schedule(tensors: Tensors, name: str, config: Dalle2PriorConfig | Dalle2UNetConfig) -> None:
    """Raise `CheckpointError` if a table is present and not that of the config's schedule."""
    if name not in tensors:
        return
    expected = make_schedule(config.schedule, config.num_timesteps).alphas_cumprod
    actual = tensors[name].read().double()
    if actual.shape != expected.shape or not torch.allclose(actual.cpu(), expected, rtol=0, atol=1e-5):
        schedule = f"{config.schedule} schedule of {config.num_timesteps} steps"
        raise CheckpointError(f"tensor {name!r} is not the table of the config's {schedule}.")


class _Importer(NamedTuple):
    hallmark: str
    """End of the name of a tensor that no other network has."""
    translate: Callable[..., ForeignNetwork]
    num_steps: int
    """The paper's, for configs without a number."""
    guidance_scale: float
    sampler: str
    """Theirs, for fewer steps than in training."""


# Guidance is that of LAION, whose prior never learned a null for guidance.
_IMPORTERS = {
    "prior": _Importer("learned_query", prior_from_checkpoint, 64, 1.0, "ddpm"),
    "decoder": _Importer("to_time_hiddens.1.weight", decoder_from_checkpoint, 250, 1.7, "ddim"),
}
# Averaged weights first; a bare state dict has no container.
_CONTAINERS = ("ema_model", "ema", "model")


def import_dalle2(file: Path) -> ForeignModel:
    """Open the prior, or the first U-Net of the decoder, in a trainer's or tracker's checkpoint or a bare state dict.

    Its config is in the checkpoint, or in a JSON beside it called `<stem>_config`, `<stem>`, `prior_config` or
    `decoder_config`, or `config`. Raises `CheckpointError` for a file that is damaged, something else or without a
    config, and for tensors that do not fit; `ConfigError` for options that ours does not have.
    """
    content = open_weights(file)
    names = content.tensors
    stage = next((s for s, kind in _IMPORTERS.items() if any(name.endswith(kind.hallmark) for name in names)), None)
    if stage is None:
        first = next(iter(names))
        raise CheckpointError(f"{file} holds no prior and no decoder of DALLE2-pytorch; its first tensor is {first!r}.")
    importer, config = _IMPORTERS[stage], content.values.get("config")
    if not isinstance(config, Mapping):
        names_beside = (f"{file.stem}_config.json", f"{file.stem}.json", f"{stage}_config.json", "config.json")
        path = next((path for name in names_beside if (path := file.parent / name).exists()), None)
        if path is None:
            raise CheckpointError(
                f"{file} does not hold its shape; put the JSON it was trained with beside it: {names_beside[0]}."
            )
        config = read_json(path)
    container = next((name for name in _CONTAINERS if content.under(name)), None)
    tensors = content.under(container) if container else names
    with naming(str(file)):
        network = importer.translate(tensors, config, content.values.get("version"))
    others = {name.split(".")[0] for name in names} - {container} if container else set()
    network = network.drop(dict.fromkeys(sorted(others), f"the weights are taken from {container!r}"))
    network = network._replace(weights=replace(network.weights, source=str(file)))
    num_steps = config.get(stage, config).get("sample_timesteps")
    num_steps = (num_steps[0] if isinstance(num_steps, list | tuple) else num_steps) or importer.num_steps
    ours = network.weights.config
    assert isinstance(ours, Dalle2PriorConfig | Dalle2UNetConfig), ours
    num_steps = min(num_steps, ours.num_timesteps)
    settings = {"num_steps": num_steps, "guidance_scale": importer.guidance_scale, "sampler": importer.sampler}
    return ForeignModel.of(f"a {stage} of DALLE2-pytorch", {stage: network}, {}, {stage: settings})
