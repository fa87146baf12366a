"""What every source of captioned pictures gives, and how names, texts and fields of any format become clean."""

import codecs
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from unclip.errors import DataError, InputError, NoCaptionsError, did_you_mean

PICTURE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif")
# The usual names, the surest first; compared without regard to case.
IMAGE_COLUMNS = (
    "file_name", "filename", "image_file", "image_path", "image", "img", "file", "filepath", "path", "picture",
    "jpg", "png", "webp",
)  # fmt: skip
CAPTION_COLUMNS = (
    "caption", "captions", "text", "texts", "prompt", "prompts", "description", "title", "sentence", "sentences",
    "alt_text", "alt", "txt", "label",
)  # fmt: skip
ADDRESS_COLUMNS = ("url", "image_url")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A file whose path begins with such a folder is not a sample to WebDataset.
META = re.compile(r"__([^/]*)__(?=/)")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture as it lies in a file (PNG, JPEG, WebP), and what is said of it."""

    key: str
    """Unique in its set; may hold slashes, no dots after the last of them."""
    picture: bytes
    captions: tuple[str, ...]
    """At least one, the plain one first; "" where there is none."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What else the source knows, as JSON values."""


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
    """A key for each of `names` (paths with forward slashes): without suffix, numbered where two agree.

    Dots, control characters and a leading folder `__name__` are written otherwise, since readers of shards take a file
    whose name has them for something else.
    """
    keys, taken = [], set[str]()
    for name in names:
        path = PurePosixPath(name)
        stem = CONTROL.sub("_", str(path.with_name(path.stem.replace(".", "_"))))
        stem = META.sub(r"_\1_", stem, count=1) if META.match(stem) else stem
        key, number = stem, 1
        while key in taken:
            number += 1
            key = f"{stem}-{number}"
        taken.add(key)
        keys.append(key)
    return keys


def find_files(root: Path) -> list[Path]:
    """All files in `root` and below, sorted; links are followed, but not in circles, and nothing hidden is found.

    Raises `InputError` for a folder that may not be read.
    """
    found: list[Path] = []
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            place = folder.stat()
            if (place.st_dev, place.st_ino) in above:
                continue
            inside = above | {(place.st_dev, place.st_ino)}
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    if entry.is_dir():
                        waiting.append((folder / entry.name, inside))
                    else:
                        found.append(folder / entry.name)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be read ({error.strerror or error}); allow it, or move it away."
            ) from None
    return sorted(found, key=lambda path: path.as_posix())


def readable_name(name: str) -> str:
    """A file's name as text: what is not UTF-8 on the disk is read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="surrogateescape").decode("latin-1")
    return name


def text_of(content: bytes) -> str:
    """The text in a file: UTF-8, or UTF-16 with a byte-order mark, which is left out; else raises `DataError`."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("its text is not UTF-8") from None


def whole_text(text: str) -> str:
    """`text` as UTF-8 can hold it: half of a surrogate pair, as a broken JSON escape leaves it, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_captions(value: object) -> tuple[str, ...]:
    """The captions in a cell or a field: a text, a list of texts or nothing; stripped, empty ones and doubles left out.

    Raises `DataError` for anything else.
    """
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"its caption is {str(value)[:80]!r}, not a text or a list of texts")
    stripped = (whole_text(text).strip("\ufeff \t\r\n\v\f").strip() for text in texts)
    return tuple(dict.fromkeys(text for text in stripped if text))


def field_captions(values: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    """The captions in the field `column`, or in the first of the usual names that holds any; () without.

    A field of another kind is no caption: many programs write fields of such names.
    """
    by_name = {name.lower(): name for name in reversed(list(values))}
    names = [by_name[name] for name in CAPTION_COLUMNS if name in by_name] if column is None else [column]
    for name in names:
        try:
            captions = clean_captions(values.get(name))
        except DataError:
            continue
        if captions:
            return captions
    return ()


def named_class(value: object, class_names: Sequence[str] | None) -> object:
    """The name of a class in place of its number, where there are names: "golden_retriever" is "golden retriever"."""
    if class_names is None or not isinstance(value, int):
        return value
    return class_names[value].replace("_", " ") if 0 <= value < len(class_names) else None


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that JSON can hold: texts, numbers, truth values, nothing, and lists and mappings of them."""
    return {whole_text(name): _whole(value) for name, value in values.items() if _is_json(value)}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if isinstance(value, dict):
        return {whole_text(name): _whole(part) for name, part in value.items()}
    return whole_text(value) if isinstance(value, str) else value


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_json(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(part) for name, part in value.items())
    return value is None or isinstance(value, str | int | float | bool)


class Asked(NamedTuple):
    """What was said about columns; None: found by the usual names."""

    image: str | None
    caption: str | None
    with_captions: bool


class Columns(NamedTuple):
    """The names of the two columns that matter."""

    image: str
    caption: str | None
    """None where captions are left out."""

    def __str__(self) -> str:
        captions = "no captions" if self.caption is None else f"captions from {self.caption!r}"
        return f"pictures from column {self.image!r}, {captions}"


def find_columns(table: Path, names: Iterable[str], asked: Asked) -> Columns:
    """The columns asked for, or else the first usual names that are there.

    Raises `DataError` naming the columns there are, where one is missing.
    """
    there = [str(name) for name in names]
    if asked.image is None and holds_addresses(there):
        raise DataError(f"{table} holds addresses, not pictures; fetch them with img2dataset and give its output.")
    image = _column(table, there, asked.image, IMAGE_COLUMNS, "image")
    if not asked.with_captions:
        return Columns(image, None)
    return Columns(image, _column(table, there, asked.caption, CAPTION_COLUMNS, "caption"))


def holds_addresses(names: Sequence[str]) -> bool:
    """Whether a table of these columns says where pictures are in the web, and not where they lie here."""
    return _usual(names, IMAGE_COLUMNS) is None and _usual(names, ADDRESS_COLUMNS) is not None


def _column(table: Path, names: list[str], asked: str | None, usual: tuple[str, ...], kind: str) -> str:
    if asked is not None:
        if asked not in names:
            raise DataError(f"{table} has no column {asked!r} ({kind}_column); {did_you_mean(asked, names)}")
        return asked
    found = _usual(names, usual)
    if found is None:
        lacking = NoCaptionsError if kind == "caption" else DataError
        raise lacking(f"{table} has columns {', '.join(names)}; name the one of {kind}s by {kind}_column.")
    return found


def _usual(names: Sequence[str], usual: tuple[str, ...]) -> str | None:
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in usual if name in by_name), None)
