"""Files behind URLs: listing a folder, fetching a file whole. Knows fsspec and HTTP; not what the files hold."""

import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

from unclip.errors import DataError, DependencyError, UnclipError
from unclip.files import atomic_path, expand_home

__all__ = ["cache_folder", "fetch", "is_url", "list_files"]

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
