"""Atomic writes: a file appears whole or not at all. Knows nothing of what the files hold."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unclip.errors import InputError

__all__ = ["atomic_folder", "atomic_path", "atomic_write"]


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed, on failure removed.

    Missing parent folders are made. An operating-system error (no permission, full disk, a folder in the way) becomes
    an `InputError` of one line, and neither a partial file nor a new parent folder stays behind.
    """
    path = Path(path)
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {path}: {error.strerror or error}; choose a writable path with room."
            ) from None
        raise


@contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it is renamed, on failure removed with all that is in it.

    `folder` must not exist or be empty. Operating-system errors become an `InputError` of one line.
    """
    folder = Path(folder).absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {folder}: {error.strerror or error}; choose a writable path with room."
            ) from None
        raise


def atomic_write(path: Path | str, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` atomically; raises `InputError` when the path cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
