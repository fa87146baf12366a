"""Define a source of captioned pictures, and clean the names, texts and fields that any format holds."""

import codecs
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, count
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
URL_COLUMNS = ("url", "image_url")
HIDDEN = (".", "__MACOSX")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A file whose path begins with such a folder is not a sample to WebDataset.
META = re.compile(r"\A__([^/]*)__(?=/)")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture, encoded as it is stored (PNG, JPEG, WebP), with its captions."""

    key: str
    """Unique in its set; may hold slashes, no dots after the last of them."""
    picture: bytes
    captions: tuple[str, ...]
    """At least one, the plain one first; "" if there is none."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of the sample, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A sample that cannot be used, and the reason."""

    name: str
    reason: str


class Content(NamedTuple):
    """One sample as its format holds it; `Source` adds the key."""

    picture: bytes
    captions: tuple[str, ...]
    """May be empty."""
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Pictures with captions in a fixed order; each picture is read when it is requested."""

    description: str
    """The format as it was recognised: "412 pictures with .txt captions"."""
    names: Sequence[str]
    """Where each sample is, for people: a path, a shard with a key, a table with a row."""
    keys: Sequence[str]
    """Unique, without a dot after the last slash, as in `Sample`."""
    num_uncaptioned: int | None
    """Samples without any caption; None if only reading all of them would tell."""
    read: Callable[[int], Content]
    """Reads one sample; raises `DataError` with the reason if it cannot."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample | Broken]:
        return (self.item(index) for index in range(len(self)))

    def item(self, index: int) -> Sample | Broken:
        """Read one sample, without decoding its picture; a missing caption becomes the empty text."""
        try:
            content = self.read(index)
        except DataError as error:
            return Broken(name=self.names[index], reason=str(error))
        return Sample(
            key=self.keys[index], picture=content.picture, captions=content.captions or ("",), info=content.info
        )

    def only(self, indices: Sequence[int]) -> "Source":
        """Return the source of these samples alone; its `num_uncaptioned` is unknown."""
        indices = tuple(indices)
        return replace(
            self,
            names=[self.names[index] for index in indices],
            keys=[self.keys[index] for index in indices],
            num_uncaptioned=None,
            read=lambda index: self.read(indices[index]),
        )


def unique_keys(names: Sequence[str]) -> list[str]:
    """Make a key of each name (a path with forward slashes): without suffix, numbered where two agree.

    Dots, control characters and a leading folder `__name__` are replaced, since readers of shards would misread them.
    """
    paths, taken = map(PurePosixPath, names), set[str]()
    stems = (CONTROL.sub("_", str(path.with_name(path.stem.replace(".", "_")))) for path in paths)
    return [free_key(META.sub(r"_\1_", stem), taken) for stem in stems]


def free_key(key: str, taken: set[str]) -> str:
    """Return `key`, or the first of `key-2`, `key-3`, ... that is not `taken`, and add it to these."""
    free = next(name for name in chain([key], (f"{key}-{number}" for number in count(2))) if name not in taken)
    taken.add(free)
    return free


def find_files(root: Path) -> list[Path]:
    """List all files in `root` and below, sorted; links are followed, without circles, and hidden files left out.

    Raises `InputError` for a folder without permission.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror or error}); allow it, or move it away.")

    files: list[Path] = []
    parents = {os.fspath(root): frozenset[str]()}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        above = parents.pop(folder) | {os.path.realpath(folder)}
        paths = [os.path.join(folder, name) for name in folders if not name.startswith(HIDDEN)]
        # A link to a folder above would lead in circles.
        parents |= {path: above for path in paths if os.path.realpath(path) not in above}
        folders[:] = [name for name in folders if os.path.join(folder, name) in parents]
        files += [Path(folder, name) for name in names if not name.startswith(HIDDEN)]
    return sorted(files, key=lambda path: path.as_posix())


def readable_name(name: str) -> str:
    """Return a file's name as text: bytes that are not UTF-8 are read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="surrogateescape").decode("latin-1")
    return name


def text_of(content: bytes) -> str:
    """Decode the text of a file, UTF-8 or UTF-16 with a byte-order mark; raises `DataError` for other encodings."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("its text is not UTF-8") from None


def whole_text(text: str) -> str:
    """Replace half of a surrogate pair, as a broken JSON escape leaves it, by U+FFFD: UTF-8 cannot encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_captions(value: object) -> tuple[str, ...]:
    """Return the captions in a text, a list of texts or None, stripped and distinct; raises `DataError` for others."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"its caption is {str(value)[:80]!r}, not a text or a list of texts")
    stripped = (whole_text(text).strip("\ufeff \t\r\n\v\f").strip() for text in texts)
    return tuple(dict.fromkeys(text for text in stripped if text))


def field_captions(values: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    """Return the captions in the field `column`, or in the first usual field that holds any; () without.

    Values of other types are passed over: many programs write fields of such names.
    """
    for name in usual_names(list(values), CAPTION_COLUMNS) if column is None else [column]:
        with suppress(DataError):
            captions = clean_captions(values.get(name))
            if captions:
                return captions
    return ()


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that JSON can hold, their texts made whole; others are left out."""
    fields = {}
    for name, value in values.items():
        with suppress(TypeError):
            fields[whole_text(name)] = json.loads(whole_text(json.dumps(value, ensure_ascii=False)))
    return fields


class ColumnOptions(NamedTuple):
    """The user's choice of columns; None means the usual names."""

    image: str | None
    caption: str | None
    with_captions: bool


class Columns(NamedTuple):
    """The names of a table's columns of pictures and captions."""

    image: str
    caption: str | None
    """None if captions are left out."""

    def __str__(self) -> str:
        captions = "no captions" if self.caption is None else f"captions from {self.caption!r}"
        return f"pictures from column {self.image!r}, {captions}"


def find_columns(table: Path, names: Iterable[str], options: ColumnOptions) -> Columns:
    """Return the columns that `options` names, or else the first usual names; raises `DataError` if one is missing."""
    names = [str(name) for name in names]
    if options.image is None and holds_urls(names):
        raise DataError(f"{table} holds URLs, not pictures; fetch them with img2dataset and give its output.")
    image = _column(table, names, options.image, IMAGE_COLUMNS, "image")
    if not options.with_captions:
        return Columns(image, None)
    return Columns(image, _column(table, names, options.caption, CAPTION_COLUMNS, "caption"))


def holds_urls(names: Sequence[str]) -> bool:
    """Return whether a table of these columns gives URLs of pictures and no paths."""
    return not usual_names(names, IMAGE_COLUMNS) and bool(usual_names(names, URL_COLUMNS))


def usual_names(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Return those of `names` that are `usual`, in any case of letters, in the order of `usual`."""
    by_name = {name.lower(): name for name in reversed(names)}
    return [by_name[name] for name in usual if name in by_name]


def _column(table: Path, names: list[str], name: str | None, usual: tuple[str, ...], kind: str) -> str:
    if name is None:
        for column in usual_names(names, usual):
            return column
        error = NoCaptionsError if kind == "caption" else DataError
        raise error(f"{table} has columns {', '.join(names)}; name the one of {kind}s by {kind}_column.")
    if name not in names:
        raise DataError(f"{table} has no column {name!r} ({kind}_column); {did_you_mean(name, names)}")
    return name
