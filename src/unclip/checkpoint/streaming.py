"""Read and write safetensors files one tensor at a time: memory holds the largest tensor, not the file.

The format is that of https://github.com/huggingface/safetensors: eight bytes of header size, a JSON header, the data.
`safetensors` itself checks a header; its own reader and writer hold or map the whole file.
"""

import json
import mmap
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unclip.errors import CheckpointError
from unclip.files import atomic_path

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
SIZE_BYTES = 8
# Of the data and, in our files, of most tensors: that of torch's own memory, so that they can be used in place.
ALIGNMENT = 64
# Bytes of a tensor below which it is read, not mapped.
SMALL = 2**18


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    quantized: "tuple[LazyTensor, LazyTensor] | None" = None
    """The stored int8 values and their scales, if the tensor is computed from these."""

    @classmethod
    def of(cls, tensor: Tensor) -> "LazyTensor":
        """Wrap a tensor that is in memory already."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    @property
    def num_bytes(self) -> int:
        """Number of bytes."""
        return prod(self.shape) * self.dtype.itemsize


class TensorFile(NamedTuple):
    """A safetensors file: its tensors, none of them read yet, and its metadata."""

    tensors: dict[str, LazyTensor]
    metadata: dict[str, str]


def open_tensors(path: Path | str) -> TensorFile:
    """Open the tensors of a safetensors file, in their stored types.

    Raises `CheckpointError` for a file that is missing, cut short, not safetensors, or of a type torch does not have.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt"):  # checks the header, the offsets and the length
            pass
        file = _OpenFile(path)
        size = int.from_bytes(file.read(0, SIZE_BYTES), "little")
        header = json.loads(file.read(SIZE_BYTES, size))
    except (SafetensorError, OSError, ValueError) as error:
        if not path.exists():
            raise CheckpointError(f"{path} does not exist; give a weights file or a model folder.") from None
        reason = f"{path.stat().st_size} bytes, {(str(error) or type(error).__name__).splitlines()[0]}"
        raise CheckpointError(f"{path} is not a whole safetensors file ({reason}); fetch it again.") from None
    metadata = header.pop("__metadata__", {})
    start = SIZE_BYTES + size
    return TensorFile({name: _lazy(file, name, entry, start) for name, entry in header.items()}, metadata)


def write_tensors(path: Path | str, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, reading and writing one tensor after the other.

    Equal content gives equal bytes. Raises `InputError` when the path cannot be written.
    """

    # Whole multiples of the alignment first, then wide types: every tensor starts at a multiple of its item size.
    def place(name: str) -> tuple[bool, int, str]:
        return tensors[name].num_bytes % ALIGNMENT > 0, -tensors[name].dtype.itemsize, name

    names, offset = sorted(tensors, key=place), 0
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    for name in names:
        tensor, start = tensors[name], offset
        offset += tensor.num_bytes
        header[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, offset]}
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content = content.ljust(-(-(SIZE_BYTES + len(content)) // ALIGNMENT) * ALIGNMENT - SIZE_BYTES)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(content).to_bytes(SIZE_BYTES, "little") + content)
            for name in names:
                file.write(_bytes(name, tensors[name]))
        temporary.chmod(0o644)


class _OpenFile:
    """A file that can be read as long as it is referenced, even if its name goes to another file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, offset: int, num_bytes: int) -> bytes:
        return os.pread(self.descriptor, num_bytes, offset)

    def map(self, offset: int, num_bytes: int, dtype: torch.dtype) -> Tensor:
        """Map pages as a tensor: memory is taken as they are read, and given back when they are not needed."""
        if os.fstat(self.descriptor).st_size < offset + num_bytes:
            raise CheckpointError(f"{self.path} was cut short while it was open; fetch it again.")
        if num_bytes < SMALL:
            # A mapping holds a descriptor of its own, and a process may have only so many.
            return torch.frombuffer(bytearray(self.read(offset, num_bytes)), dtype=torch.uint8).view(dtype)
        page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        # A private copy: writing to the tensor changes no file.
        pages = mmap.mmap(self.descriptor, offset - page + num_bytes, access=mmap.ACCESS_COPY, offset=page)
        return torch.frombuffer(pages, dtype=torch.uint8, offset=offset - page).view(dtype)


def _lazy(file: _OpenFile, name: str, entry: Mapping[str, Any], start: int) -> LazyTensor:
    code, shape, (first, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if code not in DTYPES:
        raise CheckpointError(
            f"{file.path}: {name} is of type {code}, which is not read; allowed: {', '.join(DTYPES)}."
        )
    dtype = DTYPES[code]

    def read() -> Tensor:
        if first == end:
            return torch.empty(shape, dtype=dtype)
        return file.map(start + first, end - first, dtype).reshape(shape)

    return LazyTensor(shape, dtype, read)


# A function, so that no tensor is held while the next is read.
def _bytes(name: str, lazy: LazyTensor) -> memoryview:
    tensor = lazy.read().detach().cpu()
    actual = (tuple(tensor.shape), tensor.dtype)
    assert actual == (lazy.shape, lazy.dtype), f"{name} was announced as {lazy.shape} {lazy.dtype}, but is {actual}"
    return tensor_bytes(tensor)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor on the CPU, without a copy where it is contiguous."""
    # Through bytes: numpy has neither bfloat16 nor float8.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
