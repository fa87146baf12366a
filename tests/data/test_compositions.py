"""Compositions: the same from a seed, of train items alone, with captions that say what is drawn."""

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip.data import Compositions, EmojiItem, emoji_items, load_shards, rasterize, write_emoji_shards, write_shards
from unclip.data.compositions import Cabinet, Part, is_thing, survey
from unclip.data.recolour import COLOURS
from unclip.errors import InputError

NUM = 120


@pytest.fixture(scope="module")
def train() -> list[EmojiItem]:
    return emoji_items("train")


@pytest.fixture(scope="module")
def compositions(train: list[EmojiItem]) -> Compositions:
    return Compositions(train, NUM, seed=3)


@pytest.fixture(scope="module")
def made(compositions: Compositions) -> list[EmojiItem]:
    return list(compositions)


def test_a_seed_gives_the_same_and_another_gives_others(train: list[EmojiItem], made: list[EmojiItem]) -> None:
    again = Compositions(train, NUM, seed=3)
    assert [again[index] for index in (7, 0, 63)] == [made[index] for index in (7, 0, 63)]
    # A longer list begins with the same ones.
    assert Compositions(train, 9 * NUM, seed=3)[63] == made[63]
    other = Compositions(train, NUM, seed=4)
    assert sum(other[index].label == made[index].label for index in range(20)) <= 1


def test_keys_designs_and_marks(compositions: Compositions, made: list[EmojiItem]) -> None:
    assert [item.key for item in made] == compositions.keys
    assert len(set(compositions.keys)) == NUM
    assert Counter(item.design for item in made) == dict.fromkeys(compositions.cabinets, NUM // 8)
    assert len(compositions.cabinets) == 8
    for item in made:
        assert item.info()["composition"] is True
        assert (item.group, item.skin_tones, item.test) == ("compositions", (), False)
        assert item.captions[0] == item.label
        assert (
            item.concept in item.label or " and " in item.label or " wearing " in item.label or " with " in item.label
        )
        assert len(item.captions) == len(set(item.captions)) >= 3
        assert not re.search(r"\ba [aei]|\ban [^aeiou]|  ", item.label), item.label


def test_every_kind_is_made(made: list[EmojiItem]) -> None:
    kinds = {"count": r"^(two|three|four|five) ", "colour": rf"^an? ({'|'.join(COLOURS)}) [a-z -]+$"}
    kinds |= {"pair": r"^(an? |)[a-z' -]+ and ", "sizes": "^a big .* and a small ", "dressed": " (wearing|with) an? "}
    for kind, pattern in kinds.items():
        assert sum(bool(re.search(pattern, item.label)) for item in made) >= 4, kind


def test_parts_are_of_the_train_split_and_of_one_design(train: list[EmojiItem], compositions: Compositions) -> None:
    for design, cabinet in compositions.cabinets.items():
        for item in (*cabinet.things, *cabinet.heads, *cabinet.hats, *cabinet.carried, *cabinet.glasses):
            assert not item.test
            assert item.design == design
    with pytest.raises(InputError, match=r"the 1,?001 items are of the test split, or too few"):
        Compositions(emoji_items("test"), 1)
    with pytest.raises(InputError, match="compositions=-1 is negative"):
        Compositions(train, -1)
    with pytest.raises(IndexError):
        compositions[NUM]


def test_a_count_has_as_many_separate_shapes(compositions: Compositions) -> None:
    cabinet = compositions.cabinets["twemoji"]
    balls = [item for item in cabinet.things if item.concept == "basketball"]
    only = Cabinet(balls)
    generator, words = np.random.default_rng(0), {"two": 2, "three": 3, "four": 4, "five": 5}
    for _ in range(12):
        composed = only.several(generator)
        if composed is None:
            continue
        coverage = rasterize(_item(composed.body), 96, channels=4)[..., 3] > 127
        assert count_shapes(coverage) == words[composed.captions[0].split()[0]]
        assert composed.captions[0].endswith("basketballs")


def test_a_part_is_fitted_into_its_rectangle(items: dict[str, EmojiItem]) -> None:
    for key in ("twemoji/watermelon", "noto/zebra", "fluent/elephant", "firefox/banana"):
        part = Part(items[key], "x", survey(items[key]))
        coverage = rasterize(_item(part.place(10, 20, 50, 60, "p")), 200, channels=4)[..., 3] > 127
        rows, columns = coverage.any(axis=1).nonzero()[0], coverage.any(axis=0).nonzero()[0]
        assert columns[0] >= 2 * 10 - 4
        assert columns[-1] <= 2 * 60 + 4
        assert abs(rows[-1] - 2 * 80) <= 6
        touched = abs(columns[-1] - columns[0] - 100) <= 8 or abs(rows[-1] - rows[0] - 120) <= 8
        assert touched, key


def test_scenes_and_people_are_no_things(items: dict[str, EmojiItem]) -> None:
    for key in ("noto/sunrise", "noto/flag-japan", "noto/waving-hand", "twemoji/five-oclock", "noto/locked"):
        assert key not in items or not is_thing(items[key]), key
    assert is_thing(items["noto/zebra"])


def test_shards_hold_items_and_compositions_mixed(train: list[EmojiItem], tmp_path: Path) -> None:
    composed = Compositions(train, 6)
    first = write_shards(tmp_path / "a", train[:4], 64, "x", compositions=composed)
    second = write_shards(tmp_path / "b", train[:4], 64, "x", compositions=composed, num_workers=2)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    data = load_shards(tmp_path / "a", 32)
    assert sorted(data.keys) == sorted([item.key for item in train[:4]] + composed.keys)
    assert Counter(info["composition"] for info in data.info) == {False: 4, True: 6}
    with tarfile.open(first[0]) as tar:
        picture = tar.extractfile(f"{composed.keys[0]}.png")
        note = tar.extractfile(f"{composed.keys[0]}.json")
        assert picture is not None
        assert note is not None
        with Image.open(io.BytesIO(picture.read())) as image:
            assert (image.mode, image.size) == ("RGBA", (64, 64))
        assert json.loads(note.read())["label"] == composed[0].label


def test_the_test_split_is_not_composed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are of the test split"):
        write_emoji_shards(tmp_path / "out", 16, "test", compositions=3)
    assert list(tmp_path.iterdir()) == []


def _item(body: str) -> EmojiItem:
    words = {"unicode": "", "label": "", "concept": "", "group": ""}
    lists: dict[str, tuple[str, ...]] = {"tags": (), "synonyms": (), "skin_tones": (), "captions": ("",)}
    return EmojiItem(key="noto/x", test=False, width=100.0, height=100.0, body=body, **words, **lists)


def count_shapes(mask: np.ndarray) -> int:
    """Count the connected parts of a mask, by flooding."""
    left, count = {*zip(*mask.nonzero(), strict=True)}, 0
    while left:
        front, count = [left.pop()], count + 1
        while front:
            row, column = front.pop()
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= near
            front += near
    return count
