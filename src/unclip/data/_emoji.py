"""The emoji data set: finding it and reading its items. Knows the files of `datasets/emoji`, not how they are drawn."""

import json
import lzma
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.errors import DataError, InputError, did_you_mean

__all__ = ["DESIGNS", "SPLITS", "EmojiItem", "emoji_items", "emoji_source"]

DESIGNS = ("noto", "twemoji", "fluent", "fluent-flat")
SPLITS = ("train", "test", "all")
SOURCE_VARIABLE = "UNCLIP_EMOJI"


@dataclass(frozen=True, kw_only=True)
class EmojiItem:
    """One icon with its words; `captions[0]` is `label`."""

    key: str
    """`<design>/<name>`, unique."""
    unicode: str
    """Code points in hexadecimal, joined by hyphens."""
    label: str
    """Name with skin tone, as in "waving hand: dark skin tone"."""
    concept: str
    """Label of the base emoji, the class that evaluation counts: "waving hand"."""
    tags: tuple[str, ...]
    group: str
    skin_tones: tuple[str, ...]
    """None, one, or one per person."""
    captions: tuple[str, ...]
    test: bool
    width: float
    height: float
    body: str
    """The content of the `svg` element, in a view box of `width` by `height`."""

    @property
    def design(self) -> str:
        """One of `DESIGNS`."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """The icon's name within its design."""
        return self.key.partition("/")[2]

    def info(self) -> dict[str, Any]:
        """All that is known of the item but its drawing, as JSON values."""
        fields = (
            "key",
            "design",
            "name",
            "unicode",
            "label",
            "concept",
            "tags",
            "group",
            "skin_tones",
            "captions",
            "test",
        )
        values = {field: getattr(self, field) for field in fields}
        return {field: list(value) if isinstance(value, tuple) else value for field, value in values.items()}


def emoji_source(source: Path | str | None = None) -> Path:
    """The folder of the data set: `source`, or the variable UNCLIP_EMOJI, or `datasets/emoji` of this checkout.

    Raises `DataError` when the folder does not hold the data set.
    """
    checkout = Path(__file__).resolve().parents[3] / "datasets" / "emoji"
    folder = Path(source or os.environ.get(SOURCE_VARIABLE) or checkout)
    if not (folder / "captions.jsonl.xz").is_file():
        raise DataError(
            f"no emoji data set in {folder} (captions.jsonl.xz is missing); work from a clone of the repository, "
            f"or name its datasets/emoji folder by `source` or {SOURCE_VARIABLE}."
        )
    return folder


def emoji_items(split: str = "all", source: Path | str | None = None) -> list[EmojiItem]:
    """The items of a split (one of `SPLITS`), sorted by key.

    All drawings together are 140 MB of text in memory. Raises `InputError` for an unknown split, `DataError` for a
    missing or damaged file.
    """
    if split not in SPLITS:
        raise InputError(f"split={split!r} is unknown; {did_you_mean(split, SPLITS)}")
    folder = emoji_source(source)
    bodies = {f"{design}/{icon.pop('name')}": icon for design in DESIGNS for icon in _icons(folder, design)}
    records = _read_lines(folder / "captions.jsonl.xz")
    chosen = [record for record in records if split == "all" or record["test"] == (split == "test")]
    items = [_item(record, bodies, folder) for record in chosen]
    return sorted(items, key=lambda item: item.key)


def _icons(folder: Path, design: str) -> Iterator[dict[str, Any]]:
    return _read_lines(folder / "icons" / f"{design}.jsonl.xz")


def _item(record: dict[str, Any], bodies: dict[str, dict[str, Any]], folder: Path) -> EmojiItem:
    if record["key"] not in bodies:
        raise DataError(f"{folder} has a caption but no icon for {record['key']}; rebuild it with its build.py.")
    fields: dict[str, Any] = {**record, **bodies[record["key"]]}
    fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    fields |= {side: float(fields[side]) for side in ("width", "height")}
    return EmojiItem(**fields)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; restore it from the repository.") from None
