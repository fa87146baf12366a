"""Write and read weights: safetensors with the configuration in the metadata."""

from unclip.checkpoint.streaming import LazyTensor, TensorFile, open_tensors, write_tensors
from unclip.checkpoint.weights import (
    Checkpoint,
    NetworkWeights,
    Storage,
    file_hash,
    fill,
    load_tensors,
    load_weights,
    networks_hash,
    open_weights,
    read_metadata,
    save_module,
    save_network,
    save_state,
    save_tensors,
    state_hash,
    stored_types,
)

__all__ = [
    "Checkpoint",
    "LazyTensor",
    "NetworkWeights",
    "Storage",
    "TensorFile",
    "file_hash",
    "fill",
    "load_tensors",
    "load_weights",
    "networks_hash",
    "open_tensors",
    "open_weights",
    "read_metadata",
    "save_module",
    "save_network",
    "save_state",
    "save_tensors",
    "state_hash",
    "stored_types",
    "write_tensors",
]
