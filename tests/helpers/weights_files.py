"""Weights in every format that torch and safetensors write, and what they must be when they are read again."""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.errors import CheckpointError

State = Mapping[str, Tensor]


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


def save_legacy(content: object, path: Path) -> None:
    """As torch wrote before its archives."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_script(state: State, path: Path) -> None:
    """A TorchScript archive of modules that hold `state`."""
    whole = nn.Module()
    for name, tensor in state.items():
        module, (*places, leaf) = whole, name.split(".")
        for place in places:
            if place not in module._modules:
                module.add_module(place, nn.Module())
            module = module.get_submodule(place)
        module.register_buffer(leaf, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; the archives stay.
        torch.jit.script(whole).save(path)


SAVERS: dict[str, Callable[[State, Path], None]] = {
    "safetensors": save_file,
    "zip": torch.save,
    "legacy": save_legacy,
    "script": save_script,
}
every_format = pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)


def state() -> State:
    """A tensor of every type and of unusual shapes."""
    return {
        "f16": torch.randn(3, 4).half(),
        "bf16": torch.randn(5).bfloat16(),
        "f32": torch.randn(2, 3, 1, 1),
        "f64": torch.randn(2).double(),
        "i64": torch.arange(4),
        "flags": torch.tensor([True, False]),
        "number": torch.tensor(3.5),
        "nothing": torch.empty(0, 2),
    }


def assert_same(found: Mapping[str, LazyTensor], expected: State) -> None:
    """What is promised and what is read have the type, the shape and the bits of `expected`."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tuple(tensor.shape), tensor.dtype)
        assert torch.equal(found[name].read(), tensor)
        assert found[name].read().dtype == tensor.dtype


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """What the refusal says, which is one line."""
    with pytest.raises(CheckpointError) as refused:
        call(*arguments)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)
