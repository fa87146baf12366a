"""Read files that torch saved as named tensors that stay on disk; no code of a file runs.

torch's own reader with `weights_only=True` decides what a pickle may ask for. The classes added here are inert:
stand-ins for the few objects in priors of DALLE2-pytorch, and for the modules of TorchScript.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._weights_only_unpickler import Unpickler
from torch.serialization import StorageType, safe_globals

from unclip.errors import CheckpointError


class StandIn:
    """Replaces an object: it holds the arguments in the file, and does nothing."""

    content: Any

    def __new__(cls, *content: Any) -> "StandIn":
        stand_in = super().__new__(cls)
        stand_in.content = content
        return stand_in

    def __setstate__(self, state: Any) -> None:
        self.content = state


class ScriptModule(dict[str, Any]):
    """A module of a TorchScript archive: its attributes by name."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


# The version, of any release of packaging; and the warm-up of the learning rate, with its optimizer.
INERT: list[tuple[Callable[..., Any], str]] = [
    *((StandIn, f"packaging.version.{name}") for name in ("Version", "_Version")),
    *((StandIn, f"packaging._structures.{name}") for name in ("InfinityType", "NegativeInfinityType")),
    *((StandIn, f"torch.optim.{name}") for name in ("adam.Adam", "adamw.AdamW")),
    (StandIn, "pytorch_warmup.base.LinearWarmup"),
    (lambda _: {}, "collections.defaultdict"),
    (dict, "builtins.dict"),
    *((list, f"torch.jit._pickle.build_{kind}list") for kind in ("bool", "double", "int", "tensor")),
    (lambda value, _: value, "torch.jit._pickle.restore_type_tag"),
]


def check_archive(path: Path) -> None:
    """Raise `CheckpointError` unless `path` is a zip archive of torch's whose records all match their CRC-32."""
    with _one_line(path):
        _check_records(path, path.stat().st_mtime_ns)


# Gigabytes are read, and a file is opened both to recognise it and to import it.
@lru_cache(maxsize=16)
def _check_records(path: Path, changed_ns: int) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged, names = archive.testzip(), archive.namelist()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: {damaged} does not match its CRC-32; fetch it again.")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path} is a zip archive that torch did not write; unpack it, give what is in it.")


def load_leaves(path: Path) -> dict[str, Any]:
    """Read the tensors and values that `torch.save`, or `save` of a TorchScript module, wrote, by dotted name.

    Tensors of a zip archive are mapped. A container without a tensor is one value. Raises `CheckpointError` for a file
    that is damaged, and for one that asks for more than tensors and plain values.
    """
    with _one_line(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd protocols, which end in an error or do no harm
        is_zip = zipfile.is_zipfile(path)
        reader: Any = torch._C.PyTorchFileReader(str(path)) if is_zip else None
        if is_zip and reader.has_record("constants.pkl"):
            tree = _load_script(path, reader)
        else:
            with safe_globals([*INERT]):
                tree = torch.load(path, map_location="cpu", mmap=is_zip, weights_only=True)
        return {name.removeprefix("."): leaf for name, leaf in _flat(tree, "").items()}


def _load_script(path: Path, reader: Any) -> Any:
    """Read the tree of modules without their code, which `torch.jit.load` would compile and run."""
    mapped = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def storage(saved: tuple[str, StorageType, str, str, int]) -> torch.TypedStorage:
        _, kind, record, _, length = saved
        start = reader.get_record_offset(f"data/{record}")
        part = mapped[start : start + length * kind.dtype.itemsize]
        return torch.TypedStorage(wrap_storage=part, dtype=kind.dtype, _internal=True)

    content = reader.get_record("data.pkl")
    classes = {b".".join(parts).decode() for parts in re.findall(rb"c(__torch__[\w.]*)\n(\w+)\n", content)}
    unpickler: Any = Unpickler(BytesIO(content))
    unpickler.persistent_load = storage
    with safe_globals([*INERT, *((ScriptModule, name) for name in classes)]):
        return unpickler.load()


def _flat(tree: Any, name: str) -> dict[str, Any]:
    if not isinstance(tree, Mapping | list | tuple):
        return {name: _plain(tree)}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    leaves = {key: leaf for place, value in items for key, leaf in _flat(value, f"{name}.{place}").items()}
    return leaves if any(isinstance(leaf, Tensor) for leaf in leaves.values()) else {name: tree}


def _plain(value: Any) -> Any:
    """Return the text of a version, None for other stand-ins, any other value as it is."""
    if not isinstance(value, StandIn):
        return value
    match value.content:  # as packaging has it before 26, and after 26.0
        case {"_version": StandIn(content=(_, tuple(release), *_))} | (_, tuple(release), *_):
            return ".".join(map(str, release))
    return None


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn any error inside into a `CheckpointError` about `path`: a damaged file fails in many ways."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is not None:
            raise CheckpointError(
                f"{path} asks for {refused[1]}: a pickle that can run code is not read; "
                "get the weights as safetensors, or save their tensors alone."
            ) from None
        paragraphs = str(error).split("\n\n")  # torch puts advice before and after the reason
        reason = (paragraphs[-2:][0].strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(f"{path} is not a whole file of torch.save ({reason}); fetch it again.") from None
