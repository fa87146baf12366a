"""Work in chunks of fixed length, each a file that is whole or not there. Knows rows and files; no network, no model.

Chunks do not depend on how many processes there are, so neither does what is joined from them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from unclip.checkpoint import load_tensors, open_weights, read_metadata, save_tensors
from unclip.errors import CheckpointError, InputError
from unclip.pipelines.evaluate.rows import Rows

__all__ = ["Chunk", "Chunks", "Node", "check_node", "share"]

Node = tuple[int, int]
"""This process and how many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What one chunk holds."""

    rows: Rows
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Items without rows, and why."""
    seconds: float = 0.0
    """Time that drawing took."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """A folder of chunks of `num_items` items, `length` each and the last as many as are left."""

    folder: Path
    num_items: int
    length: int

    def __len__(self) -> int:
        return -(-self.num_items // self.length)

    def items(self, number: int) -> range:
        """The items of a chunk."""
        return range(number * self.length, min((number + 1) * self.length, self.num_items))

    def missing(self) -> list[int]:
        """The chunks that are not there, or not whole."""
        return [number for number in range(len(self)) if not self._is_whole(number)]

    def write(self, number: int, chunk: Chunk) -> None:
        """Write a chunk atomically."""
        notes = {"damaged": json.dumps(dict(chunk.damaged)), "seconds": repr(chunk.seconds)}
        save_tensors(self._path(number), chunk.rows, notes)

    def kinds(self) -> list[str]:
        """The kinds of rows."""
        return sorted(open_weights(self._path(0)).tensors)

    def rows(self, kind: str) -> Tensor:
        """All rows of one kind in the order of the items."""
        return torch.cat(list(self.each(kind)))

    def each(self, kind: str) -> Iterator[Tensor]:
        """The rows of one kind, a chunk at a time."""
        for number in range(len(self)):
            yield self._read(number)[kind]

    def damaged(self) -> dict[str, str]:
        """All items without rows, and why."""
        return {name: why for notes in self._notes() for name, why in json.loads(notes["damaged"]).items()}

    def seconds(self) -> float:
        """Time that all drawing took."""
        return sum(float(notes["seconds"]) for notes in self._notes())

    def _is_whole(self, number: int) -> bool:
        if not self._path(number).exists():
            return False
        try:
            open_weights(self._path(number))
        except CheckpointError:
            return False
        return True

    def _notes(self) -> Iterator[dict[str, str]]:
        return (read_metadata(self._path(number)) for number in range(len(self)))

    def _read(self, number: int) -> dict[str, Tensor]:
        return load_tensors(self._path(number)).tensors

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:05}.safetensors"


def check_node(node: Node) -> Node:
    """`node` where it is a share of the work; raises `InputError` otherwise."""
    first, step = node
    if not 0 <= first < step:
        raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
    return node


def share(numbers: list[int], node: Node) -> list[int]:
    """The chunks among `numbers` that a process computes: every n-th."""
    first, step = node
    return [number for number in numbers if number % step == first]
