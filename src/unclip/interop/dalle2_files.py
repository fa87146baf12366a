"""A checkpoint of DALLE2-pytorch, prior or decoder, as a foreign model. Knows how its files are nested; no network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unclip.checkpoint import NetworkWeights
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.dalle2_pytorch import Imported, decoder_from_checkpoint, prior_from_checkpoint
from unclip.interop.foreign import ForeignModel, ForeignNetwork
from unclip.interop.sources import ForeignFile, open_weights, read_json

__all__ = ["import_dalle2"]


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
