"""What every source of captioned pictures looks like. Knows no format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from unclip.data._sample import Sample
from unclip.errors import DataError

__all__ = ["Broken", "Content", "Source", "clean_captions", "json_values", "named_class", "unique_keys"]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A sample that cannot be used, and why."""

    name: str
    reason: str


class Content(NamedTuple):
    """What a format reads of one sample; `Source` adds the key."""

    picture: bytes
    captions: tuple[str, ...]
    """May be empty."""
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Pictures with captions in a fixed order; a picture is in memory only while it is looked at."""

    description: str
    """What was found and how it was understood: "412 pictures with .txt captions"."""
    names: Sequence[str]
    """Where each sample lies, in the words of its owner: a path, a shard with a key, a table with a row."""
    keys: Sequence[str]
    """Unique, without a dot after the last slash, as in `Sample`."""
    num_uncaptioned: int | None
    """Samples without any caption; None where only reading them all would tell."""
    read: Callable[[int], Content]
    """Reads one sample; raises `DataError` with the reason where it cannot."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample | Broken]:
        return (self.item(index) for index in range(len(self)))

    def item(self, index: int) -> Sample | Broken:
        """One sample, its picture still encoded and not yet checked; without a caption it has the empty one."""
        try:
            content = self.read(index)
        except DataError as error:
            return Broken(name=self.names[index], reason=str(error))
        return Sample(
            key=self.keys[index], picture=content.picture, captions=content.captions or ("",), info=content.info
        )

    def only(self, indices: Sequence[int]) -> "Source":
        """The samples of these numbers alone; how many have no caption is not known then."""
        return replace(
            self,
            names=[self.names[index] for index in indices],
            keys=[self.keys[index] for index in indices],
            num_uncaptioned=None,
            read=partial(_chosen, self.read, tuple(indices)),
        )

    def without_captions(self, wanted: bool = True) -> "Source":
        """The same pictures alone, where that is `wanted`."""
        if not wanted:
            return self
        description = f"{self.description}; captions left out"
        return replace(self, description=description, num_uncaptioned=len(self), read=partial(_bare, self.read))


def _bare(read: Callable[[int], Content], index: int) -> Content:
    return read(index)._replace(captions=())


def _chosen(read: Callable[[int], Content], indices: Sequence[int], index: int) -> Content:
    return read(indices[index])


def unique_keys(names: Sequence[str]) -> list[str]:
    """A key for each of `names` (paths with forward slashes): without suffix, dots as "_", numbered where two agree."""
    keys, taken = [], set[str]()
    for name in names:
        path = PurePosixPath(name)
        stem = str(path.with_name(path.stem.replace(".", "_")))
        key, number = stem, 1
        while key in taken:
            number += 1
            key = f"{stem}-{number}"
        taken.add(key)
        keys.append(key)
    return keys


def clean_captions(value: object) -> tuple[str, ...]:
    """The captions in a cell or a field: a text, a list of texts or nothing; stripped, empty ones and doubles left out.

    Raises `DataError` for anything else.
    """
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"its caption is {str(value)[:80]!r}, not a text or a list of texts")
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def named_class(value: object, class_names: Sequence[str] | None) -> object:
    """The name of a class in place of its number, where there are names: "golden_retriever" is "golden retriever"."""
    if class_names is None or not isinstance(value, int):
        return value
    return class_names[value].replace("_", " ") if 0 <= value < len(class_names) else None


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that JSON can hold: texts, numbers, truth values, nothing, and lists and mappings of them."""
    return {name: value for name, value in values.items() if _is_json(value)}


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_json(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(part) for name, part in value.items())
    return value is None or isinstance(value, str | int | float | bool)
