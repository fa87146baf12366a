"""Folders of picture files, with captions in text files, in folder names, or none. Knows no table and no archive."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from unclip.data._source import Content, Source, clean_captions, unique_keys
from unclip.errors import DataError

__all__ = ["find_pictures", "folder_names_source", "read_file", "text_files_source", "uncaptioned_source"]

PICTURE_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_pictures(root: Path) -> list[Path]:
    """The picture files in `root` and below, by suffix, sorted; nothing hidden."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        names = (name for name in files if not name.startswith(".") and name.lower().endswith(PICTURE_SUFFIXES))
        found += [Path(folder, name) for name in names]
    return sorted(found, key=lambda path: path.as_posix())


def text_files_source(root: Path, pictures: Sequence[Path]) -> Source:
    """Captions from `<picture's name>.txt` beside each picture, one a line."""
    missing = sum(not path.with_suffix(".txt").is_file() for path in pictures)
    return _source(root, pictures, f"{len(pictures)} pictures with .txt captions", missing, _text_file)


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
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None


def _source(
    root: Path, pictures: Sequence[Path], description: str, num_uncaptioned: int, captions: Callable[[Path], object]
) -> Source:
    names = [path.relative_to(root).as_posix() for path in pictures]
    return Source(
        description=description,
        names=names,
        keys=unique_keys(names),
        num_uncaptioned=num_uncaptioned,
        read=partial(_read, pictures, captions),
    )


def _read(pictures: Sequence[Path], captions: Callable[[Path], object], index: int) -> Content:
    path = pictures[index]
    return Content(read_file(path), clean_captions(captions(path)), {})


def _text_file(path: Path) -> list[str]:
    text_file = path.with_suffix(".txt")
    if not text_file.is_file():
        return []
    try:
        return read_file(text_file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{text_file} is not UTF-8 text") from None


def _folder_name(path: Path) -> str:
    return " ".join(path.parent.name.replace("_", " ").replace("-", " ").split())


def _no_caption(path: Path) -> list[str]:
    del path
    return []
