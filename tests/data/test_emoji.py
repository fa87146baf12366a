"""The shipped data set: its counts, its split, its words, and the script that builds it."""

import hashlib
import importlib.util
import lzma
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from unclip.data import DESIGNS, EmojiItem, emoji_items, emoji_phrases, emoji_source
from unclip.errors import DataError, InputError

Items = dict[str, EmojiItem]


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(emoji_source())  # the script imports the files beside it
        yield _build()


def _build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emoji_build", emoji_source() / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts(items: Items) -> None:
    designs = Counter(item.design for item in items.values())
    assert designs == {
        "noto": 3708,
        "twemoji": 3970,
        "fluent": 3139,
        "fluent-flat": 3139,
        "blob": 1926,
        "emojione": 1786,
        "firefox": 930,
        "streamline": 778,
    }
    assert set(designs) == set(DESIGNS)
    assert len({item.concept for item in items.values()}) == 1940


def test_split_follows_the_rule(items: Items) -> None:
    for key, item in items.items():
        assert item.test == (int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 20 == 0), key
    assert Counter(item.test for item in items.values()) == {False: 18375, True: 1001}


def test_splits_part_the_items(items: Items) -> None:
    test = [item.key for item in emoji_items("test")]
    assert test == sorted(key for key, item in items.items() if item.test)


def test_captions_keep_design_and_skin_tone(items: Items) -> None:
    item = items["noto/waving-hand-medium-dark-skin-tone"]
    assert item.concept == "waving hand"
    assert item.skin_tones == ("medium-dark",)
    assert item.captions[:5] == (
        "waving hand: medium-dark skin tone",
        "waving hand: medium-dark skin tone, noto style",
        "a waving hand with medium-dark skin tone",
        "a waving hand with medium-dark skin tone, noto style",
        "waving hand, noto style",
    )
    assert item.captions[5].startswith("waving hand: medium-dark skin tone, ")
    assert "bye" in item.captions[5].split(", ")
    assert item.captions[7] == "waving hand emoji"
    assert items["twemoji/flag-japan"].captions[2] == "the flag of Japan"
    assert "a zebra, fluent flat style" in items["fluent-flat/zebra"].captions


def test_synonyms_are_captions_and_tags_name_no_label(items: Items) -> None:
    rabbits = [item for item in items.values() if item.concept == "rabbit"]
    assert "bunny" in {caption for item in rabbits for caption in item.captions}
    assert items["noto/giraffe"].synonyms == ("ruminant", "spots", "safari")
    assert items["noto/bicycle"].synonyms[:3] == ("bike", "wheel", "cycle")
    assert items["twemoji/flag-japan"].synonyms == ("Japan flag",)
    for item in items.values():
        assert len(item.tags) <= 16
        assert len(item.synonyms) <= 6
        assert item.label not in item.tags


def test_every_item_has_words(items: Items) -> None:
    for item in items.values():
        assert item.captions[0] == item.label
        assert len(item.captions) == len(set(item.captions)) >= 2
        assert item.body.startswith("<")
        assert item.info()["concept"] == item.concept
        assert not set("’‘“”") & set("".join(item.captions))


def test_stored_captions_are_those_of_the_script(items: Items, build: ModuleType) -> None:
    for item in items.values():
        word = {"label": item.label, "concept": item.concept, "group": item.group}
        word |= {"tags": list(item.tags), "synonyms": list(item.synonyms)}
        assert build.caption_forms(item.design, word) == list(item.captions)


def test_build_numbers_ids_and_their_uses(build: ModuleType) -> None:
    body = '<g filter="url(#kX9)"><use href="#b"/></g><filter id="kX9"/><path id="b"/><a href="#other"/>'
    assert build.short_ids(body) == body.replace("kX9", "i0").replace('"#b"', '"#i1"').replace('id="b"', 'id="i1"')


def test_build_writes_the_same_bytes(build: ModuleType, tmp_path: Path) -> None:
    lines = [{"name": f"icon-{index}", "body": "<path/>" * index} for index in range(50)]
    build.write_lines(tmp_path / "a", lines)
    build.write_lines(tmp_path / "b", lines)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(lzma.decompress((tmp_path / "a").read_bytes()).splitlines()) == 50


def test_phrases_are_many_short_and_sorted() -> None:
    phrases = emoji_phrases()
    assert 60_000 <= len(phrases) <= 120_000
    assert phrases == sorted(set(phrases))
    assert all(2 <= len(phrase) <= 60 and phrase == phrase.strip() for phrase in phrases)
    assert {"dog", "puppy", "happiness", "saxophone", "sunflower", "feeling tired"} - set(phrases) == set()
    assert not [phrase for phrase in phrases if "skin tone" in phrase]


def test_names_are_joined_only_if_sure(build: ModuleType) -> None:
    labels = {
        "1f431": "cat face",
        "1f408": "cat",
        "1f984": "unicorn",
        "1f1ef-1f1f5": "flag: Japan",
        "1f62b": "tired face",
    }
    names = sys.modules["names"].Names(labels, {"1f984": ["unicorn_face"], "1f62b": ["tired"]})
    assert names.find("cat-face") == "1f431"
    assert names.find("tired-face2") == "1f62b"
    assert names.find("cat2") is None
    assert names.find("unicorn-face-1") == "1f984"
    assert names.find("flag-for-japan") == "1f1ef-1f1f5"
    assert names.find("tired") == "1f62b"
    assert names.find("dog") is None
    assert set(sys.modules["aliases"].ALIASES) == {"blob", "emojione", "firefox", "streamline"}


def test_data_set_stays_small() -> None:
    sizes = [
        path.stat().st_size for path in emoji_source().rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(sizes) < 13_000_000


def test_unknown_split_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'train'"):
        emoji_items("trian")


def test_missing_source_says_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions\.jsonl\.xz is missing.*UNCLIP_EMOJI"):
        emoji_items("test", source=tmp_path)


def test_source_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_EMOJI", str(tmp_path))
    with pytest.raises(DataError, match=tmp_path.name):
        emoji_source()


def test_truncated_archive_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "emoji"
    shutil.copytree(emoji_source(), copy)
    damaged = copy / "icons" / "noto.jsonl.xz"
    damaged.write_bytes(damaged.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"noto\.jsonl\.xz"):
        emoji_items("test", source=copy)
