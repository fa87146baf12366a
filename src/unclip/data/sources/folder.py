"""Folders of picture files, with captions in files beside them, in folder names, or none. Knows no table or archive."""

import json
from collections.abc import Callable, Collection, Sequence
from functools import partial
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
"""Of a file that holds a picture's captions, the surest first."""
NUM_TRIED = 10


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its suffix."""
    return path.suffix.lower()[1:] in PICTURE_SUFFIXES


def has_captions(pictures: Sequence[Path], files: Collection[Path], column: str | None) -> bool:
    """Whether files with captions lie beside any picture; of .json files, whether the first ones hold any."""
    if any(path.with_suffix(suffix) in files for path in pictures for suffix in (".txt", ".caption")):
        return True
    described = [path for path in pictures if path.with_suffix(".json") in files][:NUM_TRIED]
    return any(_captions_beside(path, {path.with_suffix(".json")}, column) for path in described)


def text_files_source(root: Path, pictures: Sequence[Path], files: Collection[Path], column: str | None) -> Source:
    """Captions from `<picture's name>.txt` beside each picture, one a line; else from a .caption, or a .json's field.

    A `column` is that field's name, and then no other file counts.
    """
    suffixes = TEXT_SUFFIXES if column is None else (".json",)
    # Texts are taken to hold something, as only reading them all would tell; of .json files few do.
    kinds = [_kind_beside(path, files, suffixes, column) for path in pictures]
    missing = kinds.count(None)
    if column is not None and missing == len(pictures):
        raise DataError(f"no .json beside a picture in {root} has texts in {column!r}; change --caption-column.")
    named = "" if column is None else f" from {column!r}"
    kind = " and ".join(suffix for suffix in suffixes if suffix in kinds) or suffixes[0]
    description = f"{len(pictures)} pictures with {kind} captions{named}"
    return _source(root, pictures, description, missing, partial(_captions_beside, files=files, column=column))


def folder_names_source(root: Path, pictures: Sequence[Path]) -> Source:
    """The name of the folder that a picture lies in is its caption: "golden_retriever" is "golden retriever"."""
    num_names = len({_folder_name(path) for path in pictures})
    description = f"{len(pictures)} pictures, captions from {num_names} folder names"
    return _source(root, pictures, description, 0, _folder_name)


def uncaptioned_source(root: Path, pictures: Sequence[Path]) -> Source:
    """Pictures alone."""
    return _source(root, pictures, f"{len(pictures)} pictures without captions", len(pictures), _no_caption)


def read_file(path: Path) -> bytes:
    """The bytes of a file; raises `DataError` with the reason where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name may hold what no name can
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{readable_name(str(path))} cannot be read ({reason})") from None


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
        read=partial(_read, pictures, captions),
    )


def _read(pictures: Sequence[Path], captions: Callable[[Path], tuple[str, ...]], index: int) -> Content:
    path = pictures[index]
    return Content(read_file(path), captions(path), {})


def _kind_beside(path: Path, files: Collection[Path], suffixes: Sequence[str], column: str | None) -> str | None:
    kinds = [suffix for suffix in suffixes if path.with_suffix(suffix) in files]
    return next((kind for kind in kinds if kind != ".json" or _captions_beside(path, files, column)), None)


def _captions_beside(path: Path, files: Collection[Path], column: str | None) -> tuple[str, ...]:
    """The captions in the first file beside a picture that holds any; raises `DataError` for a text that is none."""
    for suffix in TEXT_SUFFIXES if column is None else (".json",):
        beside = path.with_suffix(suffix)
        if beside not in files:
            continue
        content = read_file(beside)
        if suffix == ".json":
            captions = _json_captions(content, column)
        else:
            try:
                captions = clean_captions(text_of(content).splitlines())
            except DataError as error:
                raise DataError(f"{readable_name(str(beside))}: {error}") from None
        if captions:
            return captions
    return ()


# Many programs lay a .json beside a picture: one that is none, or of another kind, says nothing of captions.
def _json_captions(content: bytes, column: str | None) -> tuple[str, ...]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return ()
    return field_captions(values, column) if isinstance(values, dict) else ()


def _folder_name(path: Path) -> tuple[str, ...]:
    return clean_captions(readable_name(path.parent.name).replace("_", " ").replace("-", " "))


def _no_caption(path: Path) -> tuple[str, ...]:
    del path
    return ()
