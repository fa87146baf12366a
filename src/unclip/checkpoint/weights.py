"""Write, read and hash networks with their configuration, in three storages.

The storages are float32; bfloat16; int8 with one float32 scale per output channel (absolute maximum / 127) for tensors
of two or more dimensions, the rest in float32. Imported weights keep their types.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint.streaming import ALIGNMENT, LazyTensor, TensorFile, open_tensors, tensor_bytes, write_tensors
from unclip.config import Config
from unclip.errors import CheckpointError

Storage = Literal["float32", "bfloat16", "int8"]
SCALE = "::scale"
INT8_MAX = 127.0


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """Config and tensors of a network, in our names; none of the tensors has been read."""

    network: str
    """Name of its class."""
    config: Config
    """Argument of the class."""
    tensors: Mapping[str, LazyTensor]
    """Its whole state dict, in the stored types."""
    source: str
    """Origin, for messages."""


class Checkpoint(NamedTuple):
    """The content of one weights file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def save_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], storage: Storage = "float32"
) -> None:
    """Write tensors and metadata atomically. Floating tensors are stored as `storage`, others as they are."""
    _write(path, {name: LazyTensor.of(tensor.detach().cpu()) for name, tensor in tensors.items()}, metadata, storage)


def save_network(path: Path | str, weights: NetworkWeights, kind: str, storage: Storage | None = None) -> None:
    """Write a network atomically, one tensor after the other, with `kind` and its configuration in the metadata.

    Without a `storage` the tensors keep the types that they have, int8 with its scales included.
    """
    config = json.dumps(weights.config.model_dump(mode="json"))
    metadata = {"format": "unclip", "kind": kind, "network": weights.network, "config": config}
    _write(path, weights.tensors, metadata, storage)


def save_module(path: Path | str, module: nn.Module, config: Config, kind: str, storage: Storage = "float32") -> None:
    """Write a module's state with `kind` and its configuration (JSON) in the metadata."""
    save_state(path, module.state_dict(), type(module).__name__, config, kind, storage)


def save_state(
    path: Path | str,
    state: Mapping[str, Tensor],
    network: str,
    config: Config,
    kind: str,
    storage: Storage = "float32",
) -> None:
    """Do as `save_module` for the state dict of a module of the class `network`."""
    tensors = {name: LazyTensor.of(tensor.detach().cpu()) for name, tensor in state.items()}
    save_network(path, NetworkWeights(network, config, tensors, str(path)), kind, storage)


def open_weights(path: Path | str) -> TensorFile:
    """Open the tensors of our file, none read yet; those of int8 storage are float32, others of their stored types.

    Raises `CheckpointError` for a file that is missing, cut short or not safetensors.
    """
    stored, metadata = open_tensors(path)
    tensors = {
        name: _dequantized(tensor, stored[name + SCALE]) if name + SCALE in stored else tensor
        for name, tensor in stored.items()
        if not name.endswith(SCALE)
    }
    return TensorFile(tensors, metadata)


def load_tensors(path: Path | str) -> Checkpoint:
    """Read a file written by `save_tensors`; floating tensors become float32. Raises as `open_weights` does."""
    stored, metadata = open_weights(path)
    tensors = {
        name: tensor.read().float() if tensor.dtype.is_floating_point else tensor.read()
        for name, tensor in stored.items()
    }
    return Checkpoint(tensors, metadata)


def read_metadata(path: Path | str) -> dict[str, str]:
    """Read the metadata of a weights file; raises like `load_tensors`."""
    return open_tensors(path).metadata


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Copy `tensors` into `module`, strictly; raises `CheckpointError` naming what is missing, unknown or misshapen."""
    _check(module, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, source)
    module.load_state_dict(dict(tensors), strict=True)


def fill(
    module: nn.Module,
    tensors: Mapping[str, LazyTensor],
    source: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Put a module on `device` with `tensors` as its state; strict as `load_weights`. It may be on the meta device.

    Parameters become `dtype`, those of convolutions channels-last; buffers (statistics) become float32. They are read
    one after the other; on a CPU tensors stored in `dtype` are not copied but mapped from the file.
    """
    _check(module, {name: tensor.shape for name, tensor in tensors.items()}, source)
    parameters = dict(module.named_parameters()).keys()
    state = {}
    for name, lazy in tensors.items():
        tensor = lazy.read()
        if tensor.is_floating_point():
            tensor = tensor.to(device, dtype if name in parameters else torch.float32)
        if tensor.ndim == 4:
            tensor = tensor.to(memory_format=torch.channels_last)
        # Kernels sum in another order where memory starts elsewhere: equal weights would not give equal bits.
        state[name] = tensor.to(device) if tensor.data_ptr() % ALIGNMENT == 0 else tensor.to(device, copy=True)
    module.load_state_dict(state, strict=True, assign=True)


def stored_types(tensors: Mapping[str, LazyTensor]) -> str:
    """Name the floating types of tensors, such as float16, or "float16+float32"."""
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.dtype.is_floating_point}
    return "+".join(sorted(types))


def _check(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], source: Path | str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    problems = [f"missing {name}" for name in expected.keys() - shapes.keys()]
    problems += [f"unknown {name}" for name in shapes.keys() - expected.keys()]
    problems += [
        f"{name} is {shapes[name]}, the network wants {shape}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:4])
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(f"{source} does not fit {type(module).__name__}: {shown}{more}.")


def _write(
    path: Path | str, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str], storage: Storage | None
) -> None:
    stored: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        stored |= _encode(name, tensor, storage)
    kept = "int8" if any(name.endswith(SCALE) for name in stored) else stored_types(stored)
    write_tensors(path, stored, dict(metadata) | {"storage": storage or kept})


def _encode(name: str, tensor: LazyTensor, storage: Storage | None) -> dict[str, LazyTensor]:
    if tensor.quantized is not None and storage in (None, "int8"):
        # As they are stored: after a new quantisation a scale may miss its last bit.
        values, scale = tensor.quantized
        return {name: values, name + SCALE: scale}
    if storage is None or not tensor.dtype.is_floating_point:
        return {name: tensor}
    if storage == "int8" and len(tensor.shape) >= 2:
        values = replace(tensor, dtype=torch.int8, read=lambda: quantize(tensor.read())[0])
        scale = LazyTensor(tensor.shape[:1], torch.float32, lambda: quantize(tensor.read())[1])
        return {name: values, name + SCALE: scale}
    dtype = torch.bfloat16 if storage == "bfloat16" else torch.float32
    return {name: LazyTensor(tensor.shape, dtype, lambda: tensor.read().to(dtype))}


def _dequantized(values: LazyTensor, scale: LazyTensor) -> LazyTensor:
    return LazyTensor(values.shape, torch.float32, lambda: dequantize(values.read(), scale.read()), (values, scale))


def quantize(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise per output channel, symmetrically: (int8 values, float32 scale (channels,)); error <= scale / 2."""
    flat = tensor.float().flatten(1)
    scale = flat.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * INT8_MAX) / INT8_MAX
    values = (flat / scale[:, None]).round().to(torch.int8)
    return values.reshape(tensor.shape).contiguous(), scale


def dequantize(values: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 tensor of int8 values (channels, ...) and one scale per channel."""
    return values.float() * scale.reshape(-1, *[1] * (values.ndim - 1))


def file_hash(path: Path | str) -> str:
    """Hash a file by SHA-256, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_hash(description: str, state: Mapping[str, Tensor]) -> str:
    """Hash a description and tensors by name, whose numbers count as float32, by SHA-256, in hexadecimal."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor.detach().float().cpu()))
    return digest.hexdigest()


def networks_hash(networks: Mapping[str, NetworkWeights]) -> str:
    """Hash the configurations and the tensors of networks, in their own types, by SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    for name, weights in sorted(networks.items()):
        digest.update(f"{name} {weights.network} {weights.config.model_dump_json()}".encode())
        for key, lazy in sorted(weights.tensors.items()):
            tensor = lazy.read()
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
