"""Main colours of drawings, other colours for them, and the colour space that both are measured in."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from unclip.data import EmojiItem, rasterize
from unclip.data.emoji import draw_svg
from unclip.data.recolour import COLOURS, from_oklab, main_colour, oklab, recolour, rgb_of

Items = dict[str, EmojiItem]


def test_oklab_of_white_grey_and_red() -> None:
    lab = oklab(np.array([[255, 255, 255], [128, 128, 128], [255, 0, 0]], np.uint8))
    # Values of the publication's own table, for sRGB.
    np.testing.assert_allclose(lab[0], [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(lab[1], [0.5999, 0, 0], atol=1e-3)
    np.testing.assert_allclose(lab[2], [0.628, 0.2249, 0.1258], atol=1e-3)


def test_oklab_goes_back_to_every_colour() -> None:
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(-1, 3).astype(np.uint8)
    np.testing.assert_array_equal(from_oklab(oklab(colours)), colours)


@pytest.mark.parametrize("name", COLOURS)
def test_a_disc_of_a_colour_has_its_name_unless_it_is_grey(name: str) -> None:
    picture = Image.new("RGBA", (16, 16))
    picture.paste(COLOURS[name], (4, 4, 12, 12))
    main = main_colour(picture)
    assert (main.name if main else None) == (None if name in ("black", "white", "grey") else name)


def test_two_halves_have_no_main_colour() -> None:
    picture = Image.new("RGBA", (16, 16), COLOURS["red"])
    picture.paste(COLOURS["blue"], (0, 0, 8, 16))
    assert main_colour(picture) is None


@pytest.mark.parametrize("design", ["twemoji", "noto", "fluent-flat", "blob"])
@pytest.mark.parametrize("name", ["blue", "green", "yellow"])
def test_a_tomato_takes_another_colour_and_keeps_its_shades(items: Items, design: str, name: str) -> None:
    item = items[f"{design}/tomato"]
    main = main_colour(draw_svg(item, 64))
    assert main is not None
    painted = dataclasses.replace(item, body=recolour(item.body, main, name))
    assert re.sub("#[0-9a-fA-F]{3,6}", "", painted.body) == re.sub("#[0-9a-fA-F]{3,6}", "", item.body)
    pixels, before = (rasterize(one, 64)[36:52, 20:44].reshape(-1, 3) for one in (painted, item))
    middle = np.median(oklab(pixels), axis=0)
    distances = {colour: np.square(oklab(rgb_of(value)) - middle).sum() for colour, value in COLOURS.items()}
    assert min(distances, key=lambda colour: float(distances[colour])) == name
    light, light_before = oklab(pixels)[:, 0], oklab(before)[:, 0]
    if light_before.std() > 0.02:
        assert np.corrcoef(light, light_before)[0, 1] > 0.8
