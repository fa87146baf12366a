"""Fixtures of the data tests: the real items, and real shards of a few of them."""

from pathlib import Path

import pytest

from pictures import picture
from unclip.data import EmojiItem, emoji_items, write_shards

KEYS = (
    "noto/zebra",
    "noto/waving-hand-medium-dark-skin-tone",
    "twemoji/watermelon",
    "twemoji/flag-japan",
    "fluent/elephant",
    "fluent-flat/keycap-5",
)


@pytest.fixture(scope="session")
def items() -> dict[str, EmojiItem]:
    return {item.key: item for item in emoji_items("all")}


@pytest.fixture(scope="session")
def few(items: dict[str, EmojiItem]) -> list[EmojiItem]:
    return [items[key] for key in KEYS]


@pytest.fixture
def shards(few: list[EmojiItem], tmp_path: Path) -> Path:
    """A folder with one shard of `few` at 32 pixels."""
    write_shards(tmp_path / "shards", few, 32, "few")
    return tmp_path / "shards"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of six pictures of different sizes and colours, alone and in two folders, without captions."""
    for index, name in enumerate(("b.png", "a.jpg", "dogs/d.webp", "dogs/e.f.png", "cats/c.png", "cats/c.jpg")):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index, 64 + 8 * index, 64).save(path)
    return tmp_path / "album"
