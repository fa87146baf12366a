"""Shards on disk or remote: listed, fetched, cached and opened."""

import abc
import gzip
import hashlib
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

from unclip.data.sources.base import find_files
from unclip.data.tars import TarIndex, damaged, index_name, load_index, local_index
from unclip.errors import DataError, DependencyError, InputError, UnclipError
from unclip.files import atomic_path, expand_home

TIMEOUT_SECONDS = 60
PAUSES = (0.5, 4.0, None)
"""Seconds before a failed download is tried again; None: no more."""


def is_url(location: str) -> bool:
    """Whether this is no local path: `s3://bucket/folder`, `https://host/folder`; `file://` is local."""
    return "://" in location and not location.startswith("file://")


def cache_folder() -> Path:
    """Where files that were fetched are kept: the variable UNCLIP_CACHE, or `~/.cache/unclip`."""
    return expand_home(os.environ.get("UNCLIP_CACHE") or "~/.cache/unclip")


def list_files(url: str) -> list[str]:
    """The names in the folder at `url`: by its page of links over HTTP, by fsspec elsewhere.

    Raises `DataError` when it cannot be listed, `DependencyError` when the package for this protocol is missing.
    """
    try:
        if _is_http(url):
            return _links(url)
        system, path = _file_system(url)
        return [name.rstrip("/").rpartition("/")[2] for name in system.ls(path, detail=False)]
    except UnclipError:
        raise
    except Exception as error:  # each protocol has exceptions of its own
        raise DataError(f"cannot list {url} ({_reason(error)}); check the address and the rights to read it.") from None


def fetch(url: str, target: Path) -> bool:
    """Copy the file at `url` to `target`, which appears whole; False when there is no such file.

    A download that fails is tried three times. Raises `DataError` after that, `DependencyError` as `list_files` does.
    """
    for pause in PAUSES:
        try:
            with atomic_path(target) as temporary:
                _download(url, temporary)
            return True
        except _Missing:
            return False
        except DataError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError(PAUSES)


class _Missing(Exception):
    """There is no file at the URL."""


def _download(url: str, target: Path) -> None:
    try:
        if _is_http(url):
            _http_get(url, target)
        else:
            system, path = _file_system(url)
            system.get_file(path, str(target))
    except UnclipError:
        raise
    except FileNotFoundError:
        raise _Missing from None
    except Exception as error:  # each protocol has exceptions of its own
        raise DataError(f"cannot fetch {url} ({_reason(error)}); check the address and the connection.") from None


# The standard library suffices for whole files, and unlike fsspec's asynchronous client it survives a fork.
def _http_get(url: str, target: Path) -> None:
    try:
        with _open_http(url) as response, open(target, "wb") as file:
            shutil.copyfileobj(response, file, 2**20)
            expected = response.headers["Content-Length"]
    except urllib.error.HTTPError as error:
        # Object stores answer 403 for a missing file where listing is not allowed.
        if error.code in (403, 404, 410):
            raise FileNotFoundError(url) from None
        raise
    found = target.stat().st_size
    if expected is not None and found != int(expected):
        raise OSError(f"{found} of {expected} bytes came")


def _links(url: str) -> list[str]:
    with _open_http(url.rstrip("/") + "/") as response:
        page = _LinkParser()
        page.feed(response.read().decode("utf-8", "replace"))
    return [urllib.parse.unquote(link.partition("?")[0]).rstrip("/").rpartition("/")[2] for link in page.links]


def _open_http(url: str) -> Any:
    return urllib.request.urlopen(urllib.parse.quote(url, safe=":/?&=%@+,~"), timeout=TIMEOUT_SECONDS)


class _LinkParser(HTMLParser):
    """Collects what the links of a page point to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec, made anew in each process (fsspec sees to that), and the path in it."""
    protocol = url.partition("://")[0]
    try:
        url_to_fs = import_module("fsspec.core").url_to_fs
    except ImportError:
        raise DependencyError(f"reading {protocol}:// needs fsspec; run: pip install 'unclip[train]'") from None
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise DependencyError(f"reading {protocol}:// needs another package ({error})") from None
    return system, path


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


SUFFIXES = (".tar", ".tar.gz", ".tgz")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
LIMIT_VARIABLE = "UNCLIP_CACHE_GB"
IN_USE_SECONDS = 60
"""A shard that was read this recently is kept, since another process may be about to open it."""


class ShardStore(abc.ABC):
    """Tars by name; picklable."""

    names: list[str]
    """The shards' file names, sorted; with slashes where they lie in folders below."""
    is_remote: bool

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """Where files made from the shards can be kept."""

    @abc.abstractmethod
    def index(self, name: str) -> TarIndex:
        """Where the samples of a shard lie; raises `DataError` for a shard that is damaged or not there."""

    @abc.abstractmethod
    def path(self, name: str, num_bytes: int) -> Path:
        """The shard of that many bytes as a local file, fetched if need be; raises `DataError` like `index`."""


def is_tar(name: str) -> bool:
    """Whether a file of this name is a tar, perhaps a packed one."""
    return name.endswith(SUFFIXES)


def tar_stem(name: str) -> str:
    """The name of a tar without its suffix."""
    return next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))


def open_store(location: str | Path) -> ShardStore:
    """The shards at `location`: a folder or the URL of one, or names in it as in `folder/{00000..00099}.tar`.

    Raises `DataError` when there is none.
    """
    text = str(location)
    text = urllib.parse.unquote(text.removeprefix("file://")) if text.startswith("file://") else text
    text = text if is_url(text) else str(Path(text).expanduser())
    names = None
    if is_tar(text) and not Path(text).is_dir():
        names = _expand(text.rpartition("/")[2])
        text = text.rpartition("/")[0] if is_url(text) else str(Path(text).parent)
    if names is None and is_url(text):
        names = _tars(list_files(text))
    elif names is None and Path(text).is_dir():
        here = (path.name for path in Path(text).iterdir())
        names = _tars(here) or _tars(path.relative_to(text).as_posix() for path in find_files(Path(text)))
    if not names:
        where = "" if is_url(text) or Path(text).is_dir() else ", which is no folder"
        raise DataError(f"no .tar shard in {location}{where}; make some with `unclip data prepare PICTURES SHARDS`.")
    if is_url(text):
        return _RemoteStore(url=text.rstrip("/"), names=names)
    return _LocalStore(place=Path(text), names=names)


@dataclass(frozen=True, kw_only=True)
class _LocalStore(ShardStore):
    place: Path
    names: list[str]
    is_remote: bool = False

    @property
    def folder(self) -> Path:
        """The shards' own folder; elsewhere when that is read-only."""
        return self.place if os.access(self.place, os.W_OK) else _cache_for(str(self.place.absolute()))

    def index(self, name: str) -> TarIndex:
        """See `ShardStore`."""
        return local_index(_unpacked(self.place / name))

    def path(self, name: str, num_bytes: int) -> Path:
        """See `ShardStore`."""
        return _unpacked(self.place / name)


@dataclass(frozen=True, kw_only=True)
class _RemoteStore(ShardStore):
    url: str
    names: list[str]
    is_remote: bool = True

    @property
    def folder(self) -> Path:
        """The cache, where a shard is taken for what lies at its URL for ever after."""
        return _cache_for(self.url)

    def index(self, name: str) -> TarIndex:
        """From the cache, the index file beside the shard, or the shard itself."""
        cached = self.folder / index_name(name)
        # Here, since a failed write takes back a folder that it made, also from under another thread that needs it.
        _make(self.folder)
        index = load_index(cached, old=True)
        if index is None and fetch(f"{self.url}/{index_name(name)}", cached):
            index = load_index(cached, old=True)
        return index or local_index(_unpacked(self._fetched(name, None)))

    def path(self, name: str, num_bytes: int) -> Path:
        """Fetched once for all processes of this machine."""
        # The length in an index is that of the tar itself.
        path = self._fetched(name, num_bytes if name.endswith(".tar") else None)
        with suppress(OSError):
            os.utime(path)  # read last, so dropped last
        return _unpacked(path)

    def _fetched(self, name: str, num_bytes: int | None) -> Path:
        path = self.folder / name
        if path.exists():
            return path
        with _locked(path):
            if path.exists():
                return path
            _make_room(self.folder.parent, num_bytes or 0)
            if not fetch(f"{self.url}/{name}", path):
                raise damaged(f"{self.url}/{name}", "there is no such file")
            found = path.stat().st_size
            if num_bytes not in (None, found):
                path.unlink()
                raise damaged(f"{self.url}/{name}", f"{found} bytes, and {num_bytes} in its index")
        return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time fetches `path`, and the system frees the lock of one that is killed."""
    from filelock import FileLock

    _make(path.parent)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with _writing(path.parent):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unpacked(path: Path) -> Path:
    """The tar itself; of a packed one, which can only be read from its beginning, a copy in the cache."""
    if path.name.endswith(".tar"):
        return path
    try:
        found = path.stat()
    except OSError as error:
        raise damaged(str(path), error.strerror or str(error)) from None
    target = _cache_for(f"{path.absolute()} {found.st_size} {found.st_mtime_ns}") / f"{tar_stem(path.name)}.tar"
    if target.exists():
        return target
    with _locked(target):
        if not target.exists():
            try:
                with gzip.open(path) as packed, atomic_path(target) as temporary, open(temporary, "wb") as file:
                    shutil.copyfileobj(packed, file, 2**20)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise damaged(str(path), str(error)) from None
    return target


def _cache_for(place: str) -> Path:
    return cache_folder() / "shards" / hashlib.sha256(place.encode()).hexdigest()[:16]


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


def _tars(names: Iterable[str]) -> list[str]:
    found = {name for name in names if is_tar(name) and not name.startswith(".")}
    # Of a tar and its packed copy the tar counts.
    return sorted(name for name in found if name.endswith(".tar") or f"{tar_stem(name)}.tar" not in found)


def _expand(pattern: str) -> list[str]:
    """`{00000..00012}` counts as in a shell and for WebDataset; a name without braces is itself."""
    match = RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return sorted(pattern[: match.start()] + number + pattern[match.end() :] for number in numbers)


def _make(folder: Path) -> None:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; name a writable folder by UNCLIP_CACHE."
        ) from None
