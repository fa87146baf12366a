"""Write pictures where -o and --format say: places are tried before the work, and all files appear together."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from unclip.errors import InputError, did_you_mean
from unclip.files import atomic_writes, check_writable, claimed_paths, free_names
from unclip.images import grid
from unclip.pipelines.result import Result, file_names
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
    is_series: bool
    """Whether the pictures belong together."""
    in_one_file: bool
    """Whether one file has all: a draft, or a series unless a folder was named."""
    is_derived: bool = False
    """Whether the suffix of a named file was changed, so that no file may be replaced."""

    @property
    def is_stdout(self) -> bool:
        """Whether the bytes go to stdout, and nothing else does."""
        return str(self.path) == STDOUT and not self.is_folder

    def names(self, titles: str | Sequence[str], seeds: Sequence[int]) -> list[Iterable[Path]]:
        """Name each file by the one path that was named, or by paths of which the first free one is taken.

        `titles` are one for all pictures or one for each.
        """
        if not self.is_folder and (self.in_one_file or len(seeds) == 1):
            return [free_names(self.path) if self.is_derived else [self.path]]
        titles, labels = [titles] * len(seeds) if isinstance(titles, str) else titles, [str(seed) for seed in seeds]
        if self.in_one_file:
            titles, labels = titles[:1], labels[:1]
        elif self.is_series:
            digits = len(str(len(labels)))
            labels = [f"{label}-{number:0{digits}}" for number, label in enumerate(labels, start=1)]
        return file_names(self.path, self.suffix, titles, labels, is_folder=self.is_folder)

    def check(self, titles: str | Sequence[str], seeds: Sequence[int]) -> None:
        """Raise `InputError` unless all files can be made; it is tried, and nothing stays behind."""
        if not self.is_stdout:
            check_writable([next(iter(paths)) for paths in self.names(titles, seeds)])
        elif sys.stdout is None or sys.stdout.isatty():
            raise InputError(
                "-o - writes to stdout, which is a terminal here; redirect it with | or >, or name a file."
            )
        elif len(seeds) > 1 and not self.in_one_file:
            raise InputError(f"-o - writes one picture, but {len(seeds)} are asked for; name a folder.")


def parse_out(out: str | None, form: str | None = None, *, is_series: bool = False, is_draft: bool = False) -> Target:
    """Read `-o` and `--format`; raises `InputError` for an unsupported format, or two that differ."""
    if form is not None and form not in FORMATS:
        raise InputError(f"--format {form} is not written; {did_you_mean(form, FORMATS)}")
    suffix, path = DRAFT if is_draft else FORMATS[form or "png"], Path(out or ".")
    is_folder = out is None or (out != STDOUT and (out.endswith(("/", os.sep)) or path.is_dir() or not path.suffix))
    if out == STDOUT and is_draft:
        raise InputError("-o - writes pictures, and these are unfinished; name a file or a folder.")
    if not is_folder and out != STDOUT:
        named = path.suffix.lower()
        if is_draft and named != DRAFT:
            raise InputError(f"{out}: unfinished pictures are written as {path.with_suffix(DRAFT)}; use that.")
        if not is_draft and named not in (*STILL, *([".gif"] if is_series else [])):
            kinds = "PNG, JPEG, WebP or GIF" if is_series else "PNG, JPEG or WebP"
            raise InputError(f"{out}: pictures are written as {kinds}; use {path.with_suffix('.png')}, or a folder.")
        if form is not None and not is_draft and named.replace("jpeg", "jpg") != suffix:
            raise InputError(f"-o {out} and --format {form} name different formats; leave one out.")
        suffix = named
    in_one_file = is_draft or (is_series and (out is None or not is_folder))
    return Target(path=path, suffix=suffix, is_folder=is_folder, is_series=is_series, in_one_file=in_one_file)


@contextmanager
def choose_paths(names: Sequence[Iterable[Path]], *, is_named: bool) -> Iterator[list[Path]]:
    """Yield the first path of each of `names` if the user named it and it may be replaced, else the first free one."""
    if is_named:
        yield [next(iter(paths)) for paths in names]
    else:
        with claimed_paths(names) as paths:
            yield paths


def save_images(
    target: Target,
    titles: str | Sequence[str],
    result: Result,
) -> list[Path]:
    """Write all pictures of a result, or none, as `atomic_writes` does, and return their paths.

    A series in one file is a row, or an animation if it ends in .gif. Only a file that was named is replaced. Pictures
    that a format has no room for become PNGs, and stderr says so. Raises `InputError` if a file cannot be written.
    """
    images = result.pictures()
    if target.in_one_file and target.suffix != ".gif" and len(images) > 1:
        images = [grid(images, len(images))]
    longest = max(max(image.size) for image in images)
    if longest > MAX_SIDE.get(target.suffix, longest):
        say(f"note: {target.suffix} holds at most {MAX_SIDE[target.suffix]} pixels a side, not {longest}; it is a PNG")
        path = target.path if target.is_folder or target.is_stdout else target.path.with_suffix(".png")
        target = replace(target, path=path, suffix=".png", is_derived=True)
    if target.suffix == ".gif":
        contents = [result.encode_series(images)]
    else:
        contents = [result.encode(image, target.suffix, place) for place, image in enumerate(images)]
    if target.is_stdout:
        sys.stdout.buffer.write(contents[0])
        sys.stdout.buffer.flush()
        return [target.path]
    names = target.names(titles, result.seeds)
    is_named = not target.is_folder and not target.is_derived and len(names) == 1
    with choose_paths(names, is_named=is_named) as paths:
        atomic_writes(dict(zip(paths, contents, strict=True)))
    return paths
