"""Sorts the tensors of a DALLE2-pytorch checkpoint into a network's own and the rest. Knows no options."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from unclip.checkpoint import LazyTensor
from unclip.diffusion import make_schedule
from unclip.errors import CheckpointError
from unclip.interop.rules import shapes_of

__all__ = ["check_schedule", "check_tensors", "sort_tensors"]


def sort_tensors(
    tensors: Mapping[str, LazyTensor], prefixes: Iterable[str], hallmark: str, reasons: Mapping[str, str]
) -> tuple[dict[str, LazyTensor], dict[str, str], str]:
    """The network's tensors without their prefix, reasons for dropping the others, and the prefix that was found.

    The prefix is the first of `prefixes` under which there is a tensor called `hallmark`; `reasons` is keyed by the
    start of a name. Raises `CheckpointError` where there is no network, and for a name that no reason covers.
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


def check_tensors(tensors: Mapping[str, LazyTensor], build: Callable[[], nn.Module]) -> None:
    """Raise `CheckpointError` unless names and shapes are those of the network that `build` makes; nothing is computed.

    One line: the first tensor that is missing, left over or of another shape.
    """
    expected = shapes_of(build, "DALLE2-pytorch")
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointError(f"tensor {name!r} of shape {shape} is missing; the config asks for it.")
        if (found := tensors[name].shape) != shape:
            raise CheckpointError(f"tensor {name!r} has shape {found}, but by the config it is {shape}.")
    for name in tensors:
        if name not in expected:
            raise CheckpointError(f"tensor {name!r} is left over: by the config there is no such weight.")


def check_schedule(tensors: Mapping[str, LazyTensor], name: str, schedule: str, num_timesteps: int) -> None:
    """Raise `CheckpointError` if the table called `name` is there and not that of `schedule`."""
    if name not in tensors:
        return
    found, expected = tensors[name].read().double(), make_schedule(schedule, num_timesteps).alphas_cumprod
    if found.shape != expected.shape or not torch.allclose(found.cpu(), expected, rtol=0, atol=1e-5):
        raise CheckpointError(
            f"tensor {name!r} is not the table of the config's {schedule} schedule of {num_timesteps} steps."
        )
