"""Write pictures where -o and --format say: places are tried before the work, and all files appear together."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from unclip.errors import InputError, did_you_mean
from unclip.files import atomic_writes, check_writable, claimed_paths, free_names, slug
from unclip.images import encode_gif, encode_picture, grid
from unclip.progress import say

STDOUT = "-"
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}
STILL = (".png", ".jpg", ".jpeg", ".webp")
DRAFT = ".safetensors"
# Pixels that a side may have; a PNG's may have as many as there is memory for.
MAX_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What `-o` and `--format` say: stdout, the name of a file, or a folder in which files get names."""

    path: Path
    suffix: str
    is_folder: bool
    is_series: bool = False
    """Whether the pictures belong together."""
    in_one: bool = False
    """Whether one file has all pictures: those of a series, unless a folder was named."""
    is_derived: bool = False
    """Whether the name is ours although a file was named, so that nothing may be replaced."""

    @property
    def is_stdout(self) -> bool:
        """Whether the bytes go to stdout, and nothing else does."""
        return str(self.path) == STDOUT and not self.is_folder

    def names(self, titles: Sequence[str], seeds: Sequence[int]) -> list[Iterable[Path]]:
        """For each file, the one path that was named, or the paths of which the first free one is taken."""
        if not self.is_folder:
            if self.in_one or len(seeds) == 1:
                return [free_names(self.path) if self.is_derived else [self.path]]
            return [_numbered(self.path, first) for first in range(1, len(seeds) + 1)]
        stems = [f"{slug(title)}-{seed}" for title, seed in zip(titles, seeds, strict=True)]
        if self.in_one:
            stems = stems[:1]
        elif self.is_series:
            digits = len(str(len(stems)))
            stems = [f"{stem}-{number:0{digits}}" for number, stem in enumerate(stems, start=1)]
        return [free_names(self.path / f"{stem}{self.suffix}") for stem in stems]

    def check(self, titles: Sequence[str], seeds: Sequence[int]) -> None:
        """Raise `InputError` unless all files can be made; it is tried, and nothing stays behind."""
        if not self.is_stdout:
            check_writable([next(iter(paths)) for paths in self.names(titles, seeds)])
        elif sys.stdout is None or sys.stdout.isatty():
            raise InputError("-o - writes to stdout, which is no pipe and no file here; add | or >, or name a file.")
        elif len(seeds) > 1 and not self.in_one:
            raise InputError(f"-o - writes one picture, but {len(seeds)} are asked for; name a folder.")


def parse_out(out: str | None, form: str | None = None, *, is_series: bool = False, is_draft: bool = False) -> Target:
    """What `-o` and `--format` mean; raises `InputError` for a kind of file that is not written, or two kinds."""
    if form is not None and form not in FORMATS:
        raise InputError(f"--format {form} is not written; {did_you_mean(form, FORMATS)}")
    suffix = DRAFT if is_draft else FORMATS[form or "png"]
    path = Path(out or ".")
    if out is None or (out != STDOUT and _is_folder(out)):
        in_one = is_series and out is None
        return Target(path=path, suffix=suffix, is_folder=True, is_series=is_series, in_one=in_one)
    if out == STDOUT:
        if is_draft:
            raise InputError("-o - writes pictures, and these are unfinished; name a file or a folder.")
        return Target(path=path, suffix=suffix, is_folder=False, is_series=is_series, in_one=is_series)
    named = path.suffix.lower()
    if is_draft and named != DRAFT:
        raise InputError(f"{out}: unfinished pictures are written as {path.with_suffix(DRAFT)}; use that.")
    if not is_draft and named not in (*STILL, *([".gif"] if is_series else [])):
        kinds = "PNG, JPEG, WebP or GIF" if is_series else "PNG, JPEG or WebP"
        raise InputError(f"{out}: pictures are written as {kinds}; use {path.with_suffix('.png')}, or a folder.")
    if form is not None and not is_draft and named.replace("jpeg", "jpg") != suffix:
        raise InputError(f"-o {out} and --format {form} name two kinds of file; leave one out.")
    return Target(path=path, suffix=named, is_folder=False, is_series=is_series, in_one=is_series)


def save_images(
    target: Target,
    images: Sequence[Image.Image],
    titles: Sequence[str],
    seeds: Sequence[int],
    metadata: Sequence[Mapping[str, str]],
) -> list[Path]:
    """Write all pictures, or none, as `atomic_writes` does, and return their paths.

    A series in one file is a row, or an animation where that ends in .gif. Only a file that was named is replaced.
    Pictures that a format has no room for become PNGs, and stderr says so. Raises `InputError` where a file cannot be
    written.
    """
    if target.in_one and target.suffix != ".gif" and len(images) > 1:
        images = [grid(images, len(images))]
    longest = max(max(image.size) for image in images)
    if longest > MAX_SIDE.get(target.suffix, longest):
        say(f"note: {target.suffix} holds at most {MAX_SIDE[target.suffix]} pixels a side, not {longest}; it is a PNG")
        target = replace(target, path=_as_png(target), suffix=".png", is_derived=True)
        return save_images(target, images, titles, seeds, metadata)
    if target.suffix == ".gif":
        contents = [encode_gif(images, metadata[0])]
    else:
        contents = [encode_picture(image, target.suffix, about) for image, about in zip(images, metadata, strict=False)]
    if target.is_stdout:
        sys.stdout.buffer.write(contents[0])
        sys.stdout.buffer.flush()
        return [target.path]
    names = target.names(titles, seeds)
    if not target.is_folder and not target.is_derived and len(names) == 1:
        atomic_writes({target.path: contents[0]})
        return [target.path]
    with claimed_paths(names) as paths:
        atomic_writes(dict(zip(paths, contents, strict=True)))
    return paths


def _numbered(path: Path, first: int) -> Iterator[Path]:
    return (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(first))


def _as_png(target: Target) -> Path:
    return target.path if target.is_folder or target.is_stdout else target.path.with_suffix(".png")


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or Path(out).is_dir() or not Path(out).suffix
