"""Write files and folders atomically, whole or not at all, download them, and choose their names."""

import errno
import http.client
import itertools
import os
import re
import shutil
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unclip.errors import DownloadError, InputError

# Bytes of a target's name that its temporary file repeats: most file systems hold 255, and more is added.
MAX_REPEATED = 200
MAX_SLUG = 40
TIMEOUT_SECONDS = 60.0
URL_CHARACTERS = ":/?&=%@+,~"
"""Characters of a URL that are not escaped."""
PIECE_BYTES = 1 << 20
GONE = (403, 404, 410)
"""HTTP statuses of a file that does not exist: object stores answer 403 where listing is not allowed."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed, on failure removed.

    Missing parent folders are made. An operating-system error (no permission, full disk, a folder in the way) becomes
    an `InputError` of one line, and neither a partial file nor a new parent folder stays behind.
    """
    path = Path(path)
    with _one_line(path), _replacements([path]) as temporaries:
        yield temporaries[path]


def atomic_write(path: Path | str, content: bytes | str) -> None:
    """Write `content` to `path` atomically; raises `InputError` if the path cannot be written.

    Text becomes UTF-8; an unpaired surrogate, which has no bytes in UTF-8, becomes its escape, as in JSON.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def atomic_writes(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all or none; raises `InputError` as `atomic_path` does.

    All files are written and flushed beside their targets before the first is renamed. If a rename fails after others,
    or an exception arrives between them, those are undone: the former files come back. No file system renames several
    files at once, so a power cut or a kill between two renames can leave some of them.
    """
    with _replacements(contents) as temporaries:
        for path, temporary in temporaries.items():
            with _one_line(path):
                temporary.write_bytes(contents[path])


@contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it is renamed, on failure removed with its content.

    `folder` must not exist or be empty. Operating-system errors become an `InputError` of one line.
    """
    folder = Path(folder).absolute()
    temporary = _temporary(folder)
    with _one_line(folder), _parents_of([folder]):
        try:
            temporary.mkdir()
            yield temporary
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def claimed_paths(names: Sequence[Iterable[Path]]) -> Iterator[list[Path]]:
    """Yield, for each of `names`, the first of its paths that is free; an empty file is made there, to be replaced.

    So two programs that choose names at once get different ones. On failure the files are removed again. Raises
    `InputError` as `atomic_path` does.
    """
    claimed: list[Path] = []
    with ExitStack() as folders:
        try:
            for candidates in names:
                for path in candidates:
                    folders.enter_context(_parents_of([path]))
                    with _one_line(path), suppress(FileExistsError):
                        path.touch(exist_ok=False)
                        claimed.append(path)
                        break
            yield claimed
        except BaseException:
            _unlink(claimed)
            raise


def download(
    url: str,
    path: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Fetch `url` over HTTP to `path` atomically.

    `progress` is called with the bytes so far and in all (0 if the server does not say); `check` gets the temporary
    file and refuses its content by raising. Raises `DownloadError` with the reason, and `InputError` if `path` cannot
    be written.
    """
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for piece in _http_pieces(url, progress):
                file.write(piece)
        if check is not None:
            check(temporary)


def _http_pieces(url: str, progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """Yield the content of `url`: as a generator, so that errors of the network and of the disk are told apart."""
    try:
        with urllib.request.urlopen(urllib.parse.quote(url, safe=URL_CHARACTERS), timeout=TIMEOUT_SECONDS) as response:
            length, done = int(response.headers.get("Content-Length") or 0), 0
            while piece := response.read(PIECE_BYTES):
                done += len(piece)
                if progress is not None:
                    progress(done, length)
                yield piece
        if done < length:  # a connection that closes early is no error to urllib
            raise ConnectionError(f"broke off after {done} of {length} bytes")
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        is_missing = isinstance(error, urllib.error.HTTPError) and error.code in GONE
        raise DownloadError(reason.splitlines()[0], is_missing=is_missing) from None


def check_writable(paths: Iterable[Path]) -> None:
    """Raise `InputError` unless a file can be made at each of `paths`, before time is spent on its content.

    A file is made and removed again: permissions do not show a read-only mount, an access control list or a long name.
    """
    for path in paths:
        if path.parts and path.parts[0].startswith("~") and not Path(path.parts[0]).exists():
            raise InputError(f"cannot write {path}: there is no home folder {path.parts[0]}; write the whole path.")
        try:
            with _parents_of([path], keep=False), _one_line(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                for target in (_temporary(path), path):
                    if not target.exists():
                        target.touch(exist_ok=False)
                        target.unlink()
        except UnicodeEncodeError:
            raise InputError(f"cannot write {str(path)!a}: this system's file names cannot encode it.") from None


def expand_home(path: Path | str) -> Path:
    """Replace a leading ~ or ~name; raises `InputError` if there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no home folder {Path(path).parts[0]}; write the whole path.") from None


def free_names(path: Path) -> Iterator[Path]:
    """Yield `path`, then with -2, -3, … behind its stem."""
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def slug(title: str) -> str:
    """Make a part of a file's name from a title: its words in lower case, or the Unicode names of its symbols."""
    words = re.sub(r"\W+", "-", title.lower()).strip("-")
    if not words:
        names = [unicodedata.name(sign, "") for sign in title if unicodedata.category(sign)[0] in "SP"]
        words = re.sub(r"\W+", "-", "-".join(names).lower()).strip("-")
    try:
        os.fsencode(words)
    except UnicodeEncodeError:  # file names are ASCII here
        words = re.sub(r"[^\w-]+", "", words, flags=re.ASCII).strip("-")
    return words[:MAX_SLUG].rstrip("-") or "image"


def _temporary(path: Path) -> Path:
    """Name a path beside `path` that no other process uses, no longer than a file system's names may be."""
    name = os.fsencode(path.name)[:MAX_REPEATED].decode(errors="ignore")
    return path.with_name(f".{name}.{os.getpid()}.tmp")


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable path with room.") from None


@contextmanager
def _parents_of(paths: Iterable[Path], *, keep: bool = True) -> Iterator[None]:
    """Make the folders that are missing above `paths`; they are removed on failure, and if they are not to be kept."""
    new: list[Path] = []
    try:
        for path in paths:
            with _one_line(path):
                for folder in reversed(path.parents):
                    if not folder.exists():
                        folder.mkdir(exist_ok=True)
                        new.append(folder)
        yield
        if keep:
            new.clear()
    finally:
        for folder in reversed(new):
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@contextmanager
def _replacements(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path beside each of `paths`; all are flushed to disk before the first is renamed."""
    temporaries = {path: _temporary(path) for path in paths}
    backups: dict[Path, Path] = {}
    renamed: list[Path] = []
    with _parents_of(temporaries):
        try:
            yield temporaries
            for path, temporary in temporaries.items():
                with _one_line(path), temporary.open("rb") as file:
                    os.fsync(file.fileno())
            for path, temporary in temporaries.items():
                with _one_line(path):
                    if len(temporaries) > 1 and path.exists():
                        backups[path] = _back_up(path, temporary.with_suffix(".old"))
                    temporary.replace(path)
                    renamed.append(path)
        except BaseException:
            for path in renamed if len(temporaries) > 1 else ():
                with suppress(OSError):
                    backups[path].replace(path) if path in backups else path.unlink()
            raise
        finally:
            _unlink([*temporaries.values(), *backups.values()])


def _back_up(path: Path, backup: Path) -> Path:
    """Give the file a second name, or make a copy if the file system has no links."""
    backup.unlink(missing_ok=True)
    try:
        os.link(path, backup)
    except OSError:
        shutil.copy2(path, backup)
    return backup


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def bytes_text(count: float) -> str:
    """Write a number of bytes: 12.3 MB, or 4.56 GB."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
