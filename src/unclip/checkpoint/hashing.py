"""Hash files, the state of a module and networks by SHA-256."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unclip.checkpoint.streaming import tensor_bytes
from unclip.checkpoint.weights import NetworkWeights


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
