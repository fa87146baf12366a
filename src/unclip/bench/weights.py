"""Networks filled with random numbers at the speed of copying, in the format they run in. Knows no stage."""

from collections.abc import Mapping
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, fill
from unclip.model import open_sources
from unclip.runtime import seeded

# Numbers that are drawn; larger tensors repeat them. Drawing billions of numbers would take minutes.
NUM_DRAWN = 2**16
VECTOR_STD = 0.02


def fill_network(network: nn.Module, device: torch.device, dtype: torch.dtype, stage: str, model: str | None) -> None:
    """Put the network of `stage` from meta on `device`, with the weights of `model`, or with random ones."""
    tensors = _random(network, dtype) if model is None else open_sources([model]).source.networks[stage].tensors
    fill(network, tensors, model or "random weights", device, dtype)


def held_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a network's weights in `dtype`, and of its statistics in float32."""
    weights = sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
    return weights + sum(buffer.numel() * torch.float32.itemsize for buffer in network.buffers())


def _random(network: nn.Module, dtype: torch.dtype) -> Mapping[str, LazyTensor]:
    parameters = dict(network.named_parameters()).keys()
    return {
        name: LazyTensor(tuple(tensor.shape), dtype, partial(_tensor, tuple(tensor.shape), dtype, name in parameters))
        for name, tensor in network.state_dict().items()
    }


def _tensor(shape: tuple[int, ...], dtype: torch.dtype, is_weight: bool) -> Tensor:
    """Weights whose products keep the size of their input; statistics are ones, by which one may divide."""
    if not is_weight:
        return torch.ones(shape)
    scale = (shape[0] / prod(shape)) ** 0.5 if len(shape) > 1 else VECTOR_STD
    drawn = (scale * torch.randn(NUM_DRAWN, generator=seeded(0, prod(shape)))).to(dtype)
    flat = torch.empty(prod(shape), dtype=dtype)
    whole = len(flat) // NUM_DRAWN * NUM_DRAWN
    flat[:whole].view(-1, NUM_DRAWN).copy_(drawn.expand(whole // NUM_DRAWN, -1))
    flat[whole:] = drawn[: len(flat) - whole]
    return flat.view(shape)
