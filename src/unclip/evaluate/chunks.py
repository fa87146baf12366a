"""Files of a resumable evaluation: features in chunks, and the request that a folder was started with."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unclip.checkpoint import load_tensors, open_weights, read_metadata, save_tensors
from unclip.config import differences
from unclip.errors import CheckpointError, InputError
from unclip.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """A folder of files with the features of `num_items` items, `length` items in each and the rest in the last."""

    folder: Path
    num_items: int
    length: int

    def __len__(self) -> int:
        return -(-self.num_items // self.length)

    def items(self, number: int) -> range:
        """Return the items of a chunk."""
        return range(number * self.length, min((number + 1) * self.length, self.num_items))

    def missing(self) -> set[int]:
        """Return the numbers of the chunks without a complete file."""
        numbers = set[int]()
        for number in range(len(self)):
            try:
                open_weights(self._path(number))
            except CheckpointError:
                numbers.add(number)
        return numbers

    def write(
        self, number: int, rows: Mapping[str, Tensor], *, damaged: Mapping[str, str] | None = None, seconds: float = 0.0
    ) -> None:
        """Write a chunk atomically: rows by kind, reasons why items have no rows, and the time that drawing took."""
        save_tensors(self._path(number), rows, {"damaged": json.dumps(dict(damaged or {})), "seconds": repr(seconds)})

    def each(self, kind: str) -> Iterator[Tensor]:
        """Yield the rows of one kind, a chunk at a time, in the order of the items."""
        return (load_tensors(self._path(number)).tensors[kind] for number in range(len(self)))

    def damaged(self) -> dict[str, str]:
        """Return all items without rows, and why."""
        return {name: reason for notes in self._notes() for name, reason in json.loads(notes["damaged"]).items()}

    def seconds(self) -> float:
        """Return the time that all drawing took."""
        return sum(float(notes["seconds"]) for notes in self._notes())

    def _notes(self) -> Iterator[dict[str, str]]:
        return (read_metadata(self._path(number)) for number in range(len(self)))

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:05}.safetensors"


REQUEST_FILE = "settings.json"


def check_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Raise `InputError` if `folder` is a file, or was started by another request, with the first difference.

    `request` may be a part of the whole: the part that is known before all pictures are read.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the evaluation with -o.")
    path = folder / REQUEST_FILE
    if not path.exists():
        return
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give another folder.") from None
    if not isinstance(stored, dict):
        raise InputError(f"{path} holds no settings of an evaluation; give another folder.")
    current = json.loads(json.dumps(request))  # JSON turns tuples into lists
    before, now = (", ".join(label or "one setting" for label in one.get("points", {})) for one in (stored, current))
    if "points" in current and before != now:
        raise InputError(
            f"{folder} holds an evaluation of {before}, but {now} is asked for; ask for the same, or give another "
            "folder."
        )
    for name, (old, new) in differences({name: stored.get(name) for name in current}, current).items():
        # The settings of an evaluation without a sweep have the label "".
        shown = name.removeprefix("points.").removeprefix(".")
        raise InputError(
            f"{folder} holds an evaluation with {shown}={_short(old)}, but {_short(new)} is asked for; ask for the "
            "same, or give another folder."
        )


def write_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Write the request unless the folder has one."""
    if not (folder / REQUEST_FILE).exists():
        atomic_write(folder / REQUEST_FILE, json.dumps(request, indent=1) + "\n")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
