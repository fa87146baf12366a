"""Where pictures go: from `-o` to file names, checked before the work, written together. Knows paths and PNG files."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from unclip.errors import InputError
from unclip.files import atomic_path
from unclip.images import grid, save_gif, save_png

__all__ = ["check_writable", "draft_path", "image_paths", "save_images", "series_paths"]

MAX_SLUG = 40


def image_paths(out: str | None, prompt: str, seeds: Sequence[int]) -> list[Path]:
    """The file of each picture.

    `out` ending in .png is the file itself, numbered from 1 where there are several pictures; anything else is a
    folder (None: the current one), in which a file is called after prompt and seed. Raises `InputError` for the name
    of another kind of picture.
    """
    path = Path(out or ".")
    if out is None or _is_folder(out):
        return [path / f"{_slug(prompt)}-{seed}.png" for seed in seeds]
    if path.suffix.lower() != ".png":
        raise InputError(f"{out}: pictures are written as PNG; use {path.with_suffix('.png')} or a folder.")
    if len(seeds) == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, len(seeds) + 1)]


def draft_path(out: str | None, prompt: str, seed: int) -> Path:
    """The file of a draft: `out` where it ends in .safetensors, else one called after prompt and seed in that folder.

    Raises `InputError` for the name of another kind of file.
    """
    path = Path(out or ".")
    if out is None or _is_folder(out):
        return path / f"{_slug(prompt)}-{seed}.safetensors"
    if path.suffix != ".safetensors":
        raise InputError(f"{out}: unfinished pictures are written as {path.with_suffix('.safetensors')}; use that.")
    return path


def series_paths(out: str | None, title: str, seeds: Sequence[int]) -> list[Path]:
    """The file, or the files, of pictures that belong together; they have one seed.

    `out` ending in .png or .gif is one file for all, and so is None, a .png in the current folder; anything else is a
    folder, in which files are called after title, seed and number. Raises `InputError` as `image_paths` does.
    """
    stem = f"{_slug(title)}-{seeds[0]}"
    if out is None:
        return [Path(f"{stem}.png")]
    path, digits = Path(out), len(str(len(seeds)))
    if _is_folder(out):
        return [path / f"{stem}-{number:0{digits}}.png" for number in range(1, len(seeds) + 1)]
    if path.suffix.lower() not in (".png", ".gif"):
        raise InputError(f"{out}: use {path.with_suffix('.png')}, {path.with_suffix('.gif')}, or a folder for each.")
    return [path]


def check_writable(paths: Sequence[Path]) -> None:
    """Raise `InputError` when a file could not be made at one of `paths`, so that no time is spent on drawing it."""
    for path in paths:
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if path.is_dir() or not (there == path or there.is_dir()) or not os.access(there, os.W_OK):
            raise InputError(f"cannot write {path}: {there} is not a place to write to; choose another with -o.")


def save_images(images: Sequence[Image.Image], paths: Sequence[Path], metadata: Sequence[Mapping[str, str]]) -> None:
    """Write all pictures, or none: the files appear together at the end. Raises `InputError` when one cannot be.

    A single path takes all pictures there are: in a row, or as an animation where it ends in .gif.
    """
    if len(paths) == 1:
        path, chunks = paths[0], metadata[0]
        save_gif(images, path, chunks) if path.suffix.lower() == ".gif" else save_png(_row(images), path, chunks)
        return
    with ExitStack() as stack:
        for image, path, chunks in zip(images, paths, metadata, strict=True):
            save_png(image, stack.enter_context(atomic_path(path)), chunks)


def _row(images: Sequence[Image.Image]) -> Image.Image:
    return images[0] if len(images) == 1 else grid(images, len(images))


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or Path(out).is_dir() or not Path(out).suffix


def _slug(prompt: str) -> str:
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")
    return words[:MAX_SLUG].rstrip("-") or "image"
