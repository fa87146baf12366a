"""Read folders of picture files, with captions in files beside them, in folder names, or none."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from unclip.data.sources.base import (
    PICTURE_SUFFIXES,
    Content,
    Source,
    clean_captions,
    field_captions,
    readable_name,
    text_of,
    unique_keys,
)
from unclip.errors import DataError

TEXT_SUFFIXES = (".txt", ".caption", ".json")
"""Suffixes of files that hold a picture's captions, the surest first."""
NUM_TRIED = 10


def text_files_source(root: Path, pictures: Sequence[Path], files: Collection[Path], column: str | None) -> Source:
    """Take captions from `<picture's name>.txt` beside each picture, one a line; else from a .caption or a .json field.

    With a `column`, the name of that field, the .json alone is read.
    """
    suffixes = TEXT_SUFFIXES if column is None else (".json",)

    # A text file is assumed to hold a caption, since only reading all would tell; few .json files hold one.
    def kind_of(path: Path) -> str | None:
        kinds = [suffix for suffix in suffixes if path.with_suffix(suffix) in files]
        return next((kind for kind in kinds if kind != ".json" or captions_beside(path, files, column)), None)

    kinds = [kind_of(path) for path in pictures]
    missing = kinds.count(None)
    if column is not None and missing == len(pictures):
        raise DataError(f"no .json beside a picture in {root} has texts in {column!r}; change --caption-column.")
    field = "" if column is None else f" from {column!r}"
    kind = " and ".join(suffix for suffix in suffixes if suffix in kinds) or suffixes[0]
    description = f"{len(pictures)} pictures with {kind} captions{field}"
    return _source(root, pictures, description, missing, lambda path: captions_beside(path, files, column))


def folder_names_source(root: Path, pictures: Sequence[Path]) -> Source:
    """Take the name of a picture's folder as its caption: "golden_retriever" is "golden retriever"."""

    def caption(path: Path) -> tuple[str, ...]:
        return clean_captions(readable_name(path.parent.name).replace("_", " ").replace("-", " "))

    num_names = len({caption(path) for path in pictures})
    description = f"{len(pictures)} pictures, captions from {num_names} folder names"
    return _source(root, pictures, description, 0, caption)


def uncaptioned_source(root: Path, pictures: Sequence[Path]) -> Source:
    """Read pictures without captions."""
    return _source(root, pictures, f"{len(pictures)} pictures without captions", len(pictures), lambda path: ())


def _source(
    root: Path,
    pictures: Sequence[Path],
    description: str,
    num_uncaptioned: int,
    captions: Callable[[Path], tuple[str, ...]],
) -> Source:
    names = [readable_name(path.relative_to(root).as_posix()) for path in pictures]
    return Source(
        description=description,
        names=names,
        keys=unique_keys(names),
        num_uncaptioned=num_uncaptioned,
        read=lambda index: Content(read_file(pictures[index]), captions(pictures[index]), {}),
    )


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture by its suffix."""
    return path.suffix.lower()[1:] in PICTURE_SUFFIXES


def has_captions(pictures: Sequence[Path], files: Collection[Path]) -> bool:
    """Return whether files with captions lie beside any picture; of .json files the first ten are read."""
    if any(path.with_suffix(suffix) in files for path in pictures for suffix in (".txt", ".caption")):
        return True
    described = [path for path in pictures if path.with_suffix(".json") in files][:NUM_TRIED]
    return any(captions_beside(path, {path.with_suffix(".json")}, None) for path in described)


def captions_beside(path: Path, files: Collection[Path], column: str | None) -> tuple[str, ...]:
    """Read the captions in the first file beside a picture that holds any; raises `DataError` for an invalid text."""
    for suffix in TEXT_SUFFIXES if column is None else (".json",):
        beside = path.with_suffix(suffix)
        if beside not in files:
            continue
        content, captions = read_file(beside), tuple[str, ...]()
        if suffix == ".json":
            # Many programs write a .json beside a picture: an invalid one, or another structure, holds no captions.
            with suppress(ValueError, RecursionError):
                values = json.loads(content)
                captions = field_captions(values, column) if isinstance(values, dict) else ()
        else:
            try:
                captions = clean_captions(text_of(content).splitlines())
            except DataError as error:
                raise DataError(f"{readable_name(str(beside))}: {error}") from None
        if captions:
            return captions
    return ()


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; raises `DataError` with the reason if it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{readable_name(str(path))} cannot be read ({reason})") from None
