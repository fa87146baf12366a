"""Read opt-out lists, and find the entry that a sample matches."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from unclip.data.check import WORD
from unclip.data.sources.base import PICTURE_SUFFIXES, text_of
from unclip.errors import DataError, InputError

Form = Literal["sha256", "url", "domain", "name", "words"]
SHA256 = re.compile(r"[0-9a-f]{64}")
DOMAIN = re.compile(r"(?:[\w-]+\.)+[^\W\d_][\w-]+")
SUFFIX = re.compile(rf"\.(?:{'|'.join(PICTURE_SUFFIXES)})\Z", re.IGNORECASE)
URL = re.compile(r"https?://", re.IGNORECASE)
COMMENT = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True, kw_only=True)
class OptOut:
    """Entries of opt-out lists by form, each with its file and line."""

    entries: Mapping[Form, Mapping[str, str]]
    """A plain text is among the words and among the names."""

    @classmethod
    def read(cls, paths: Sequence[Path | str]) -> "OptOut":
        """Read lists of one entry a line; # begins a comment at the start of a line or after a space.

        64 hexadecimal digits are a SHA-256; what holds :// is a URL; what ends as a picture's file or holds a slash is
        a name; a.b is a domain; any other text is words, and a name. Raises `InputError` for a file that cannot be
        read, `DataError` for one without entries and for a text without a word.
        """
        entries: dict[Form, dict[str, str]] = {form: {} for form in get_args(Form)}
        for path in map(Path, paths):
            try:
                lines = text_of(path.read_bytes()).splitlines()
            except (OSError, DataError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise InputError(f"the opt-out list {path} cannot be read ({reason}); give a text in UTF-8.") from None
            texts = {number: COMMENT.sub("", line).strip() for number, line in enumerate(lines, start=1)}
            if not any(texts.values()):
                raise DataError(f"the opt-out list {path} has no entry; write one a line, or leave the list out.")
            for number, text in texts.items():
                for form, entry in _read_entry(text) if text else ():
                    if not entry:
                        raise DataError(f"{path}, line {number}: {text[:40]!r} holds no word; correct or remove it.")
                    entries[form].setdefault(entry, f"{path.name}:{number}")
        return cls(entries=entries)

    def match(self, names: Sequence[str], sha256: str, captions: Sequence[str], info: Mapping[str, Any]) -> str | None:
        """Return the form, file and line of the first entry that a sample matches; None without one.

        A SHA-256 is that of the picture's file, or the field "sha256" of the .json, where img2dataset keeps that of the
        file it fetched. URLs are the fields of the .json that begin with http:// or https://: an entry is the same URL
        but for scheme, user, case of the host, fragment and a last slash; one that ends in a slash, or has no path, is
        also any URL below it. A domain is the host of a URL, or a domain above it. A name is one of `names` or the part
        after its last slash, whatever its case and its picture's suffix. Words follow each other in one caption,
        whatever their case and what stands between them.
        """
        urls = [_url(value) for value in info.values() if isinstance(value, str) and URL.match(value)]
        hosts = [re.split(r"[:/]", url)[0].split(".") for url in urls]
        words = [WORD.findall(text.casefold()) for text in captions]
        lengths = {entry.count(" ") + 1 for entry in self.entries["words"]}
        values: dict[Form, Iterator[str]] = {
            "sha256": iter((sha256, str(info.get("sha256")).lower())),
            "url": (part for url in urls for part in (url, url.rstrip("/"), *_folders(url))),
            "domain": (".".join(host[first:]) for host in hosts for first in range(len(host))),
            "name": (_name(part) for name in names for part in (name, name.rpartition("/")[2])),
            "words": (" ".join(text[at : at + size]) for text in words for size in lengths for at in range(len(text))),
        }
        for form, parts in values.items():
            for part in parts:
                if part in self.entries[form]:
                    return f"{form} in {self.entries[form][part]}"
        return None


def _read_entry(text: str) -> list[tuple[Form, str]]:
    """Return an entry by form, as it is compared; "" for a text without a word."""
    if SHA256.fullmatch(text.lower()):
        return [("sha256", text.lower())]
    if "://" in text:
        return [("url", _url(text))]
    if "/" in text or SUFFIX.search(text):
        return [("name", _name(text))]
    if DOMAIN.fullmatch(text):
        return [("domain", text.lower())]
    return [("words", " ".join(WORD.findall(text.casefold()))), ("name", _name(text))]


def _url(text: str) -> str:
    """Write a URL without scheme, user and fragment, its host in lower case."""
    host, _, path = text.partition("://")[2].partition("#")[0].partition("/")
    return f"{host.rpartition('@')[2].lower()}/{path}"


def _folders(url: str) -> Iterator[str]:
    """Yield all that is above a URL, each with its last slash."""
    path = url.partition("?")[0]
    return (path[: match.end()] for match in re.finditer("/", path))


def _name(text: str) -> str:
    return SUFFIX.sub("", text).casefold()
