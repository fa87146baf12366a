"""List, fetch, cache and open tar shards, on disk or at a URL."""

import gzip
import hashlib
import html
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.data.sources.base import find_files
from unclip.data.tars import INDEX_SUFFIX, TarIndex, damaged, load_index, local_index
from unclip.errors import DataError, DependencyError, DownloadError, InputError, UnclipError, optional_module
from unclip.files import TIMEOUT_SECONDS, URL_CHARACTERS, atomic_path, download, expand_home

SUFFIXES = (".tar", ".tar.gz", ".tgz")
HTTP = ("http://", "https://")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
LIMIT_VARIABLE = "UNCLIP_CACHE_GB"
IN_USE_SECONDS = 60
"""A shard that was read this recently is kept, since another process may be about to open it."""
PAUSES = (0.5, 4.0, None)
"""Seconds before a failed download is repeated; None: not again."""
LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ShardStore:
    """Tars by name in one folder or below one URL; picklable."""

    location: str
    """A path, or a URL without slash at its end."""
    names: list[str]
    """The shards' file names, sorted; with slashes if they lie in folders below."""

    @property
    def is_remote(self) -> bool:
        return is_url(self.location)

    @property
    def folder(self) -> Path:
        """Return where files made from the shards are kept: beside them, or in the cache if remote or read-only.

        In the cache a shard stands for the content of its URL for ever.
        """
        if self.is_remote:
            return _cache_for(self.location)
        path = Path(self.location)
        return path if os.access(path, os.W_OK) else _cache_for(str(path.absolute()))

    def index(self, name: str) -> TarIndex:
        """Read a shard's index from the cache, beside the shard or from the shard; raises `DataError` as `path`."""
        if not self.is_remote:
            return local_index(_unpacked(Path(self.location) / name))
        cached = self.folder / f"{name}{INDEX_SUFFIX}"
        # Before any thread fetches: a failed write removes a folder that it made, which other threads may need.
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        index = load_index(cached, old=True)
        if index is None and fetch(f"{self.location}/{name}{INDEX_SUFFIX}", cached):
            index = load_index(cached, old=True)
        return index or local_index(_unpacked(self._fetched(name, None)))

    def path(self, name: str, num_bytes: int) -> Path:
        """Return the shard of that many bytes as a local file, fetched once for all processes of this machine.

        Raises `DataError` for a shard that is damaged or missing.
        """
        if not self.is_remote:
            return _unpacked(Path(self.location) / name)
        # The length in an index is that of the tar itself.
        path = self._fetched(name, num_bytes if name.endswith(".tar") else None)
        with suppress(OSError):
            os.utime(path)  # read last, so dropped last
        return _unpacked(path)

    def _fetched(self, name: str, num_bytes: int | None) -> Path:
        path, url = self.folder / name, f"{self.location}/{name}"

        def fetch_shard() -> None:
            _make_room(self.folder.parent, num_bytes or 0)
            if not fetch(url, path):
                raise damaged(url, "there is no such file")
            size = path.stat().st_size
            if num_bytes not in (None, size):
                path.unlink()
                raise damaged(url, f"{size} bytes, and {num_bytes} in its index")

        return _make_once(path, fetch_shard)


def open_store(location: str | Path) -> ShardStore:
    """Open the shards at `location`, a folder, a URL or `folder/{00000..00099}.tar`; raises `DataError` for none."""
    text = str(location)
    text = urllib.parse.unquote(text.removeprefix("file://")) if text.startswith("file://") else text
    text = text if is_url(text) else str(Path(text).expanduser())
    names: list[str] = []
    if is_tar(text) and not Path(text).is_dir():
        names = _expand(text.rpartition("/")[2])
        text = text.rpartition("/")[0] if is_url(text) else str(Path(text).parent)
    elif is_url(text):
        names = _tars(list_files(text))
    elif Path(text).is_dir():
        here = (path.name for path in Path(text).iterdir())
        names = _tars(here) or _tars(path.relative_to(text).as_posix() for path in find_files(Path(text)))
    if not names:
        where = "" if is_url(text) or Path(text).is_dir() else ", which is no folder"
        raise DataError(f"no .tar shard in {location}{where}; make some with `unclip data prepare PICTURES SHARDS`.")
    return ShardStore(location=text.rstrip("/") if is_url(text) else text, names=names)


def cache_beside(location: str | Path) -> Path:
    """Return the existing folder for files made from the shards at `location`: theirs, or one in the cache."""
    folder = open_store(location).folder
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_url(location: str) -> bool:
    """Return whether this is a URL (`s3://bucket/folder`, `https://host/folder`); a `file://` counts as a path."""
    return "://" in location and not location.startswith("file://")


def is_tar(name: str) -> bool:
    """Return whether a file of this name is a tar, perhaps a packed one."""
    return name.endswith(SUFFIXES)


def tar_stem(name: str) -> str:
    """Return the name of a tar without its suffix."""
    return next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))


def _tars(names: Iterable[str]) -> list[str]:
    tars = {name for name in names if is_tar(name) and not name.startswith(".")}
    # Of a tar and its packed copy the tar counts.
    return sorted(name for name in tars if name.endswith(".tar") or f"{tar_stem(name)}.tar" not in tars)


def _expand(pattern: str) -> list[str]:
    """Expand `{00000..00012}` as a shell and WebDataset do; a name without braces is itself."""
    match = RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return sorted(pattern[: match.start()] + number + pattern[match.end() :] for number in numbers)


def list_files(url: str) -> list[str]:
    """List the names in the folder at `url`: from its page of links over HTTP, by fsspec for other protocols.

    Raises `DataError` if it cannot be listed, `DependencyError` if the package for this protocol is missing.
    """
    try:
        if url.startswith(HTTP):
            page = urllib.parse.quote(url.rstrip("/") + "/", safe=URL_CHARACTERS)
            with urllib.request.urlopen(page, timeout=TIMEOUT_SECONDS) as response:
                links = LINK.findall(response.read().decode("utf-8", "replace"))
            paths = [urllib.parse.unquote(html.unescape(link).partition("?")[0]) for link in links]
        else:
            system, path = _file_system(url)
            paths = system.ls(path, detail=False)
        return [path.rstrip("/").rpartition("/")[2] for path in paths]
    except UnclipError:
        raise
    except Exception as error:  # each protocol has exceptions of its own
        raise DataError(f"cannot list {url} ({_reason(error)}); check the address and the rights to read it.") from None


def fetch(url: str, target: Path) -> bool:
    """Copy the file at `url` to `target`, which appears whole; return False if there is no such file.

    A download that fails is tried three times. Raises `DataError` after that, `DependencyError` as `list_files` does.
    """
    for pause in PAUSES:
        try:
            # Without fsspec over HTTP: there it needs seven packages more, of which an asynchronous client, whose
            # thread does not survive a fork.
            if url.startswith(HTTP):
                download(url, target)
            else:
                with atomic_path(target) as temporary:
                    _copy(url, temporary)
            return True
        except DownloadError as error:
            if error.is_missing:
                return False
            if pause is None:
                raise DataError(f"cannot fetch {url} ({error}); check the address and the connection.") from None
            time.sleep(pause)
    raise AssertionError(PAUSES)


def _copy(url: str, target: Path) -> None:
    try:
        system, path = _file_system(url)
        system.get_file(path, str(target))
    except UnclipError:
        raise
    except FileNotFoundError:
        raise DownloadError("there is no such file", is_missing=True) from None
    except Exception as error:  # each protocol has exceptions of its own
        raise DownloadError(_reason(error)) from None


def _file_system(url: str) -> Any:
    """Return fsspec's file system of a URL, which fsspec makes anew in each process, and the path in it."""
    protocol = url.partition("://")[0]
    core = optional_module("fsspec.core", f"reading {protocol}://")
    try:
        return core.url_to_fs(url)
    except ImportError as error:
        raise DependencyError(f"reading {protocol}:// needs another package ({error})") from None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def cache_folder() -> Path:
    """Return the folder of fetched files: the variable UNCLIP_CACHE, or `~/.cache/unclip`."""
    return expand_home(os.environ.get("UNCLIP_CACHE") or "~/.cache/unclip")


def _cache_for(location: str) -> Path:
    return cache_folder() / "shards" / hashlib.sha256(location.encode()).hexdigest()[:16]


def _make_once(path: Path, make: Callable[[], None]) -> Path:
    """Let one process at a time make `path` if it is missing; the system frees the lock of one that is killed."""
    from filelock import FileLock

    if not path.exists():
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        with _writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            if not path.exists():
                make()
        finally:
            lock.release()
    return path


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; name a writable folder by UNCLIP_CACHE."
        ) from None


def _unpacked(path: Path) -> Path:
    """Return the tar itself; of a packed one, which can only be read from its beginning, a copy in the cache."""
    if path.name.endswith(".tar"):
        return path
    try:
        status = path.stat()
    except OSError as error:
        raise damaged(str(path), error.strerror or str(error)) from None
    target = _cache_for(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}") / f"{tar_stem(path.name)}.tar"

    def unpack() -> None:
        try:
            with gzip.open(path) as packed, atomic_path(target) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(packed, file, 2**20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise damaged(str(path), str(error)) from None

    return _make_once(target, unpack)


def _make_room(folder: Path, num_bytes: int) -> None:
    """Drop the shards that were read longest ago until `num_bytes` more stay under UNCLIP_CACHE_GB; unset: no limit."""
    limit = os.environ.get(LIMIT_VARIABLE)
    if not limit:
        return
    try:
        excess = num_bytes - float(limit) * 1e9
    except ValueError:
        raise InputError(f"{LIMIT_VARIABLE}={limit!r} is no number of gigabytes; give one, as 200.") from None
    shards = []
    for path in filter(lambda path: is_tar(path.name), folder.glob("*/*")):
        with suppress(FileNotFoundError):  # another process made room as well
            shards.append((path.stat().st_mtime, path.stat().st_size, path))
    excess += sum(size for _, size, _ in shards)
    for last_read, size, path in sorted(shards):
        if excess <= 0 or time.time() - last_read < IN_USE_SECONDS:
            return
        path.unlink(missing_ok=True)
        excess -= size
