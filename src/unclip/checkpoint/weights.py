"""What the package writes: a module's state with its configuration. Knows modules and storages, no one network.

Three storages: float32; bfloat16; int8 with one float32 scale per output channel (absolute maximum / 127) for tensors
of two or more dimensions, the rest in float32. Reading always gives float32.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint.streaming import LazyTensor, open_tensors, write_tensors
from unclip.config import Config
from unclip.errors import CheckpointError

__all__ = [
    "Checkpoint",
    "Storage",
    "file_hash",
    "load_tensors",
    "load_weights",
    "read_metadata",
    "save_module",
    "save_tensors",
]

Storage = Literal["float32", "bfloat16", "int8"]
SCALE = "::scale"
INT8_MAX = 127.0


class Checkpoint(NamedTuple):
    """The content of one weights file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def save_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], storage: Storage = "float32"
) -> None:
    """Write tensors and metadata atomically. Floating tensors are stored as `storage` says, others as they are."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stored |= _encode(name, tensor.detach().cpu(), storage)
    lazy = {name: LazyTensor.of(tensor) for name, tensor in stored.items()}
    write_tensors(path, lazy, dict(metadata) | {"storage": storage})


def load_tensors(path: Path | str) -> Checkpoint:
    """Read a file written by `save_tensors`; floating tensors come back as float32 on the CPU.

    Raises `CheckpointError` for a file that is missing, cut short or not safetensors.
    """
    stored, metadata = open_tensors(path)
    names = [name for name in stored if not name.endswith(SCALE)]
    return Checkpoint({name: _decode(name, stored) for name in names}, metadata)


def read_metadata(path: Path | str) -> dict[str, str]:
    """The metadata of a weights file without its tensors; raises like `load_tensors`."""
    return open_tensors(path).metadata


def save_module(path: Path | str, module: nn.Module, config: Config, kind: str, storage: Storage = "float32") -> None:
    """Write a module's state with `kind` and its configuration (JSON) in the metadata."""
    metadata = {"format": "unclip", "kind": kind, "config": json.dumps(config.model_dump(mode="json"))}
    save_tensors(path, module.state_dict(), metadata, storage)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Copy `tensors` into `module`, strictly; raises `CheckpointError` naming what is missing, unknown or misshapen."""
    expected = module.state_dict()
    problems = [
        *(f"missing {name}" for name in expected.keys() - tensors.keys()),
        *(f"unknown {name}" for name in tensors.keys() - expected.keys()),
        *(
            f"{name} is {tuple(tensors[name].shape)}, the network wants {tuple(expected[name].shape)}"
            for name in expected.keys() & tensors.keys()
            if tensors[name].shape != expected[name].shape
        ),
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:4])
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(f"{source} does not fit {type(module).__name__}: {shown}{more}.")
    module.load_state_dict(dict(tensors), strict=True)


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encode(name: str, tensor: Tensor, storage: Storage) -> dict[str, Tensor]:
    if not tensor.is_floating_point() or storage == "float32" or (storage == "int8" and tensor.ndim < 2):
        return {name: tensor.contiguous()}
    if storage == "bfloat16":
        return {name: tensor.to(torch.bfloat16).contiguous()}
    values, scale = quantize(tensor)
    return {name: values, name + SCALE: scale}


def _decode(name: str, stored: Mapping[str, LazyTensor]) -> Tensor:
    tensor = stored[name].read()
    if name + SCALE in stored:
        return dequantize(tensor, stored[name + SCALE].read())
    return tensor.float() if tensor.is_floating_point() else tensor


def quantize(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per output channel: (int8 values, float32 scale of shape (channels,)); error <= scale / 2."""
    flat = tensor.float().flatten(1)
    scale = flat.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * INT8_MAX) / INT8_MAX
    values = (flat / scale[:, None]).round().to(torch.int8)
    return values.reshape(tensor.shape).contiguous(), scale


def dequantize(values: Tensor, scale: Tensor) -> Tensor:
    """float32 tensor from int8 values (channels, ...) and one scale per channel."""
    return values.float() * scale.reshape(-1, *[1] * (values.ndim - 1))
