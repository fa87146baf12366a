"""Drawing: white ground, right colours in every design, shapes that are not square, damaged SVG."""

import dataclasses

import numpy as np
import pytest

from unclip.data import DESIGNS, EmojiItem, rasterize
from unclip.errors import DataError, InputError

Items = dict[str, EmojiItem]


HEARTS = {design: f"{design}/red-heart" for design in DESIGNS if design not in ("blob", "firefox", "streamline")}
HEARTS |= {"firefox": "firefox/redheart", "streamline": "streamline/heart-suit"}
"""The blobs' heart is pink."""


@pytest.mark.parametrize("key", HEARTS.values())
def test_red_heart_is_red_on_white(items: Items, key: str) -> None:
    picture = rasterize(items[key], 64)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert (picture[0, 0] == 255).all()
    red, green, blue = picture[28:36, 28:36].mean(axis=(0, 1))
    assert red > 200
    assert max(green, blue) < 130


@pytest.mark.parametrize("key", HEARTS.values())
def test_a_fourth_channel_is_coverage(items: Items, key: str) -> None:
    picture = rasterize(items[key], 64, channels=4)
    assert picture.shape == (64, 64, 4)
    np.testing.assert_array_equal(picture[..., :3], rasterize(items[key], 64))
    assert picture[0, 0].tolist() == [255, 255, 255, 0]
    assert (picture[28:36, 28:36, 3] == 255).all()
    assert 0.3 < (picture[..., 3] / 255).mean() < 0.85


def test_fluent_filters_are_drawn(items: Items) -> None:
    item = items["fluent/red-heart"]
    plain = dataclasses.replace(item, body=item.body.replace("filter=", "data-filter="))
    difference = np.abs(rasterize(item, 64).astype(int) - rasterize(plain, 64))
    assert difference.mean() > 1


def test_linked_parts_are_drawn(items: Items) -> None:
    item = items["noto/backhand-index-pointing-down"]
    plain = dataclasses.replace(item, body=item.body.replace("<use ", "<unused "))
    difference = np.abs(rasterize(item, 64).astype(int) - rasterize(plain, 64))
    assert difference.mean() > 2


def test_icon_that_is_not_square_is_centred(items: Items) -> None:
    item = items["twemoji/watermelon"]
    assert (item.width, item.height) == (36, 25.22)
    inked = (rasterize(item, 72) != 255).any(axis=(1, 2)).nonzero()[0]
    margin = (72 - 72 * item.height / item.width) / 2
    assert abs(inked[0] - margin) <= 1
    assert abs(71 - inked[-1] - margin) <= 1


def test_size_changes_detail_not_content(items: Items) -> None:
    item = items["noto/zebra"]
    halved = rasterize(item, 128).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - rasterize(item, 64)).mean() < 2


def test_damaged_svg_names_the_item(items: Items) -> None:
    with pytest.raises(DataError, match="noto/zebra"):
        rasterize(dataclasses.replace(items["noto/zebra"], body="<path"), 16)


def test_size_below_one(items: Items) -> None:
    with pytest.raises(InputError, match="image_size=0"):
        rasterize(items["noto/zebra"], 0)


def test_channels_are_three_or_four(items: Items) -> None:
    with pytest.raises(InputError, match="channels=2 is unknown"):
        rasterize(items["noto/zebra"], 16, channels=2)


def test_a_panic_of_the_renderer_names_the_item_and_the_size(items: Items) -> None:
    with pytest.raises(DataError, match=r"cannot draw fluent/person-curly-hair-dark at 16 px .*; use a larger size"):
        rasterize(items["fluent/person-curly-hair-dark"], 16)
