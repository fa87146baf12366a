"""Fixtures of the data tests: the real items, and real shards of a few of them."""

from pathlib import Path

import pytest

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
