"""What an evaluation's folder was made for, so that another request is not mixed into it. Knows JSON; no model."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from unclip.checkpoint import NetworkWeights
from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.pipelines.model import Model

__all__ = ["REQUEST_FILE", "check_request", "model_hash", "write_request"]

REQUEST_FILE = "settings.json"


def check_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Raise `InputError` where `folder` is no folder, or was begun by another request, with the first difference.

    `request` may be a part of the whole, of what is known already.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the evaluation with -o.")
    path = folder / REQUEST_FILE
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give another folder.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings of an evaluation; give another folder.")
    # What was written went through JSON, where a tuple is a list.
    asked = json.loads(json.dumps(request))
    found = {name: value for name, value in found.items() if name in asked}
    labels = [", ".join(label or "one setting" for label in one.get("points", {})) for one in (found, asked)]
    if labels[0] != labels[1]:
        raise InputError(
            f"{folder} holds an evaluation of {labels[0]}, but {labels[1]} is asked for; ask for the same, or give "
            "another folder."
        )
    for name, before, now in _differences("", found, asked):
        raise InputError(
            f"{folder} holds an evaluation with {name}={_short(before)}, but {_short(now)} is asked for; ask for the "
            "same, or give another folder."
        )


def write_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Write the request unless it is there."""
    if not (folder / REQUEST_FILE).exists():
        atomic_write(folder / REQUEST_FILE, json.dumps(request, indent=1) + "\n")


def model_hash(model: Model) -> str:
    """SHA-256, in hexadecimal, of the configurations and weights of all networks, as they are in memory."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.source().networks.items()):
        _update(digest, name, weights)
    return digest.hexdigest()


def _update(digest: Any, name: str, weights: NetworkWeights) -> None:
    digest.update(f"{name} {weights.network} {weights.config.model_dump_json()}".encode())
    for key, tensor in sorted(weights.tensors.items()):
        value = tensor.read()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _differences(place: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The places where two JSON values differ, as names with dots."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            # A setting is called as it is without a sweep: "prior.num_steps".
            name = key if place in ("", "points") else f"{place}.{key}" if key else place
            yield from _differences(name, before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (first, second) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{place}[{index}]", first, second)
    elif before != now:
        yield place, before, now


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
