"""Open weights files and folders of other libraries; tensors are read one by one, and checked when they are read.

A file is recognised by its first bytes, not by its name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from unclip.checkpoint import LazyTensor, open_tensors
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.pickles import check_archive, load_leaves

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
LFS_POINTER = b"version https://git-lfs"
WEB_PAGE = (b"<!doctype", b"<html")
HEAD_BYTES = 64
BRACE_AT = 8  # a safetensors file starts with the size of its header, then the header
KINDS = ("safetensors", "bin")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")


@dataclass(frozen=True, eq=False)
class ForeignFile:
    """Content of a weights file; no tensor has been read."""

    tensors: dict[str, LazyTensor]
    """By name: keys of nested containers, and positions in lists, joined by dots."""
    values: dict[str, Any]
    """All else, by name: versions, configs, steps. A container without a tensor is one value."""

    def under(self, prefix: str) -> dict[str, LazyTensor]:
        """Return the tensors of the container `prefix`, by their names in there."""
        return tensors_under(self.tensors, prefix)


def tensors_under(tensors: Mapping[str, LazyTensor], prefix: str) -> dict[str, LazyTensor]:
    """Return the tensors whose name starts with `prefix` and a dot, without these."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def open_weights(path: Path | str) -> ForeignFile:
    """Open one file: safetensors, `torch.save` in either format, or a TorchScript archive.

    Values of safetensors are its metadata. Reading a tensor raises `CheckpointError` for NaN and infinity. A pickle
    that is no zip archive cannot be mapped and is held whole until another file is read. Raises `CheckpointError` for a
    file that is missing, damaged, something else, or that asks to run code.
    """
    path = Path(path)
    head = _head(path)
    if head[BRACE_AT : BRACE_AT + 1] == b"{":
        tensors, values = open_tensors(path)
    elif head.startswith((ZIP, PICKLE)):
        if head.startswith(ZIP):
            check_archive(path)
        leaves = _leaves(path, path.stat().st_mtime_ns)
        tensors = {
            name: LazyTensor(tuple(leaf.shape), leaf.dtype, partial(_read, path, name))
            for name, leaf in leaves.items()
            if isinstance(leaf, Tensor)
        }
        values = {name: leaf for name, leaf in leaves.items() if not isinstance(leaf, Tensor)}
    else:
        raise CheckpointError(
            f"{path} is no weights file (it starts with {head[:8]!r}); give safetensors or a torch file."
        )
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors; give a weights file.")
    return ForeignFile({name: _checked(path, name, value) for name, value in tensors.items()}, values)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; raises `CheckpointError` if it is missing or only stands for another one."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); give a file that is there.") from None
    if not head:
        raise CheckpointError(f"{path} is empty; fetch it again.")
    if head.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer; fetch the file itself (git lfs pull).")
    if head.lstrip().lower().startswith(WEB_PAGE):
        raise CheckpointError(f"{path} is a web page; fetch the file itself.")
    return head


# One file at a time: what has been read of a map counts as memory until the map goes.
@lru_cache(maxsize=1)
def _leaves(path: Path, changed_ns: int) -> dict[str, Any]:
    return load_leaves(path)


def _read(path: Path, name: str) -> Tensor:
    tensor: Tensor = _leaves(path, path.stat().st_mtime_ns)[name]
    return tensor.detach()


def _checked(path: Path, name: str, lazy: LazyTensor) -> LazyTensor:
    def read() -> Tensor:
        tensor = lazy.read()
        if tensor.is_floating_point() and tensor.numel() > 0:
            low, high = (tensor if tensor.dtype.itemsize > 1 else tensor.float()).aminmax()
            if not (low.isfinite() and high.isfinite()):  # one NaN makes both NaN
                raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinity; fetch the file again.")
        return tensor

    return LazyTensor(lazy.shape, lazy.dtype, read)


def read_json(path: Path | str) -> dict[str, Any]:
    """Read the object in a JSON file; raises `CheckpointError` if there is none."""
    path = Path(path)
    _head(path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({str(error).splitlines()[0]}); fetch it again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a JSON object; fetch it again.")
    return content


class Component(NamedTuple):
    """A network of diffusers or transformers."""

    config: Mapping[str, Any]
    """The content of its `config.json`."""
    tensors: Mapping[str, LazyTensor]
    """Its state dict, not read yet."""


def open_part(folder: Path) -> Component:
    """Open the network in a folder; raises `CheckpointError` like `open_component` and `read_json`."""
    return Component(read_json(folder / "config.json"), open_component(folder))


def open_component(folder: Path | str, stems: Sequence[str] = STEMS) -> dict[str, LazyTensor]:
    """Open the tensors of a network in the layout of diffusers and transformers: one file, or shards and an index.

    `stems` are names without ending, of which the first that exists is taken. Safetensors go before pickles, a file
    without a variant ("fp16") before those that have one. Raises `CheckpointError` like `open_weights`, and if shards
    and index differ.
    """
    folder = Path(folder)
    name = _component_name([path.name for path in folder.iterdir()] if folder.is_dir() else [], stems)
    if name is None:
        allowed = " or ".join(f"{stem}.{kind}" for kind in KINDS for stem in stems)
        raise CheckpointError(f"{folder} holds no weights; {allowed} should be there, or an index of shards.")
    if not name.endswith(".json"):
        return open_weights(folder / name).tensors
    shards = _shards(folder / name)
    tensors: dict[str, LazyTensor] = {}
    for shard in sorted(set(shards.values())):
        if not (folder / shard).exists():
            raise CheckpointError(f"{folder / shard} is missing, a shard that {name} names; fetch it.")
        part = open_weights(folder / shard).tensors
        differing = sorted(part.keys() ^ {tensor for tensor, file in shards.items() if file == shard})
        if differing:
            fault = "holds {!r}, which is not in" if differing[0] in part else "lacks {!r}, which is in"
            raise CheckpointError(f"{folder / shard} {fault.format(differing[0])} {name}; fetch both again.")
        tensors |= part
    return tensors


def pick_files(folder: Path, names: Sequence[str], stems: Sequence[str] = STEMS) -> list[str]:
    """Return the weights files that `open_component` would open in `folder` if it held all of `names`.

    An index of shards has to be there already. The list is empty if none of the names is of such a file.
    """
    name = _component_name(names, stems)
    if name is None or not name.endswith(".json"):
        return [] if name is None else [name]
    return sorted(set(_shards(folder / name).values()))


def _component_name(names: Sequence[str], stems: Sequence[str]) -> str | None:
    for kind in KINDS:
        for stem in stems:
            pattern = rf"{re.escape(stem)}(\.\w+)?\.{kind}(\.index(\.\w+)?\.json)?"
            matches = [match for name in sorted(names) if (match := re.fullmatch(pattern, name))]
            if matches:
                return min(matches, key=lambda match: (bool(match[1] or match[3]), match[0]))[0]
    return None


def _shards(path: Path) -> dict[str, str]:
    """Read the file of each tensor from an index of shards."""
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not all(
        isinstance(shard, str) and Path(shard).name == shard for shard in shards.values()
    ):
        raise CheckpointError(f"{path} has no weight_map of tensors to files beside it; fetch it again.")
    return shards


class PipelineIndex(NamedTuple):
    """The content of a `model_index.json` of diffusers."""

    kind: str
    """Class name of the pipeline."""
    components: dict[str, str]
    """Class names of the components that are present, by their folders."""
    dropped: dict[str, str]
    """Other entries, each with the reason why it is not read."""


def read_index(folder: Path, content: Mapping[str, Any]) -> PipelineIndex:
    """Sort the `content` of the `model_index.json` in a folder.

    A custom pipeline names its module before its class; a component without a class is absent. Raises `CheckpointError`
    for entries of another form.
    """
    path, components, dropped = folder / "model_index.json", dict[str, str](), dict[str, str]()
    match content.get("_class_name"):
        case str(kind):
            pass
        case [str(module), str(kind)]:
            dropped["_class_name"] = f"{module} is code of the model's own, which is never run"
        case other:
            raise CheckpointError(f"{path} names no class of a pipeline (_class_name is {other!r}); fetch it again.")
    for name, entry in content.items():
        match entry:
            case _ if name.startswith("_"):
                continue
            case None | [None] | [_, None]:
                continue
            case [_, str(component)]:
                components[name] = component
            case list():
                raise CheckpointError(f"{path}: {name} is {entry!r}, no pair of library and class; fetch it again.")
            case _:
                dropped[name] = f"an option of {kind}, which has no equal here"
    return PipelineIndex(kind, components, {f"model_index.json: {name}": why for name, why in dropped.items()})


def check_class(folder: Path, name: str, kind: str, allowed: str) -> None:
    """Raise `ConfigError` for a component of another class than the one that is read."""
    if kind != allowed:
        raise ConfigError(f"{folder}: {name} is a {kind}; only {allowed} is read there.")
