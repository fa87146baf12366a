"""Pictures on white with their coverage: straight colours come back, and every background is exact."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pictures import picture as smooth
from unclip.images import cover, cover_all, from_pil, grid, on_background, straighten, to_pil, to_uint8
from unclip.pictures import coverage_of, on_colour, on_white, white_and_coverage

Byte = st.integers(0, 255)
Unit = st.floats(0, 1, width=32)


def one(*values: float) -> torch.Tensor:
    """A picture of one pixel from numbers in [0, 1]."""
    return torch.tensor(values).view(1, -1, 1, 1) * 2 - 1


def unit(images: torch.Tensor) -> list[float]:
    return ((images + 1) / 2).flatten().tolist()


def random_rgba(side: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (side, side, 4), dtype=np.uint8))


@given(Unit, Unit, Unit, st.floats(1 / 255, 1))
def test_straight_colours_come_back(red: float, green: float, blue: float, alpha: float) -> None:
    on_white_ground = [alpha * colour + 1 - alpha for colour in (red, green, blue)]
    found = unit(straighten(one(*on_white_ground, alpha)))
    # Numbers of float32 in [-1, 1], divided by alpha.
    assert found == pytest.approx([red, green, blue, alpha], abs=3e-7 / alpha)


@pytest.mark.parametrize(
    ("pixel", "straight"),
    [
        ((0.2, 0.9, 1.0, 0.0039), (1, 1, 1, 0)),  # a hair below 1 / 255
        ((0.2, 0.9, 1.0, 0.004), (0, 0, 1, 0.004)),  # darker than any colour of that coverage
        ((0.4, 0.7, 1.0, 0.5), (0, 0.4, 1, 0.5)),
        ((0.4, 0.7, 1.0, 1.0), (0.4, 0.7, 1, 1)),
        ((1.5, -0.5, 0.5, 1.5), (1, 0, 0.5, 1)),  # out of bounds, as networks draw
    ],
)
def test_what_has_no_colour_is_white_and_the_rest_is_clamped(pixel: tuple[float, ...], straight: list[float]) -> None:
    assert unit(straighten(one(*pixel))) == pytest.approx(straight, abs=1e-6)


@given(Unit, Unit, Byte, Byte)
def test_a_background_is_exact(colour: float, alpha: float, red: int, blue: int) -> None:
    white = alpha * colour + 1 - alpha
    found = unit(on_background(one(white, white, white, alpha), (red, 0, blue)))
    expected = [alpha * colour + (1 - alpha) * ground / 255 for ground in (red, 0, blue)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_white_is_the_first_three_channels_bit_for_bit_and_three_channels_stay() -> None:
    images = torch.randn(2, 4, 3, 5)
    assert torch.equal(on_background(images), images[:, :3])
    assert torch.equal(on_background(images[:, :3], (1, 2, 3)), images[:, :3])
    assert on_background(images, "transparent") is images
    assert [image.mode for image in to_pil(images, "transparent")] == ["RGBA", "RGBA"]
    assert [image.mode for image in (*to_pil(images), *to_pil(images[:, :3], "transparent"))] == ["RGB"] * 4


def test_pictures_go_to_batches_and_back() -> None:
    picture = random_rgba()
    batch = from_pil([picture], 4)
    assert batch.shape == (1, 4, 24, 24)
    assert torch.equal(batch[:, :3], from_pil([picture]))
    (again,) = to_pil(batch, "transparent")
    found, pixels = np.asarray(again).astype(int), np.asarray(picture).astype(int)
    assert np.array_equal(found[..., 3], pixels[..., 3])
    # On white a colour has as many levels as its alpha, and Pillow rounds once more.
    error = np.abs(found - pixels)[..., :3] * pixels[..., 3:]
    assert error[pixels[..., 3] > 0].max() <= 255 * 1.5
    for colour in ((255, 255, 255), (255, 204, 0), (0, 0, 0)):
        expected = np.asarray(on_colour(picture, colour)).astype(int)
        assert np.abs(to_uint8(on_background(batch, colour))[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["RGB", "L", "1", "CMYK", "P", "I;16", "F"])
def test_what_has_no_alpha_is_covered(kind: str) -> None:
    picture = Image.new("RGB", (4, 3), "red").convert(kind.replace("I;16", "L"))
    picture = Image.fromarray(np.full((3, 4), 900, dtype=np.uint16)) if kind == "I;16" else picture
    assert np.array_equal(np.asarray(coverage_of(picture)), np.full((3, 4), 255))
    assert torch.equal(from_pil([picture], 4)[:, 3], torch.ones(1, 3, 4))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "P"])
def test_alpha_of_every_mode_is_read(kind: str) -> None:
    picture = Image.new("RGBA", (4, 3), (200, 0, 0, 51))
    picture.putpixel((1, 1), (200, 0, 0, 0))
    found = np.asarray(coverage_of(picture.convert(kind)))
    assert found[1, 1] == 0
    assert found[0, 0] == 51
    assert np.array_equal(np.asarray(white_and_coverage(picture)[1])[0], np.full(4, 51))
    assert np.array_equal(np.asarray(white_and_coverage(picture)[0]), np.asarray(on_white(picture)))


@pytest.mark.parametrize("size", [(8, 8), (16, 32), (96, 96)])
def test_colours_and_coverage_are_scaled_alike(size: tuple[int, int]) -> None:
    """Each layer by itself: the reference scales numbers that are multiplied by alpha, in float."""
    picture = smooth(0)
    picture.putalpha(smooth(1).convert("L"))
    scaled = cover_all([picture], size, 4)
    assert torch.equal(scaled[:, :3], from_pil([cover(picture, size[::-1])]))
    pixels = np.asarray(picture).astype(np.float32) / 255
    layers = np.concatenate([pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:], pixels[..., 3:]], axis=-1)
    scale = min(64 / size[1], 64 / size[0])
    left, top = (64 - scale * size[1]) / 2, (64 - scale * size[0]) / 2
    box = (left, top, left + scale * size[1], top + scale * size[0])
    expected = [
        np.asarray(Image.fromarray(layer).resize(size[::-1], Image.Resampling.BICUBIC, box=box))
        for layer in np.moveaxis(np.ascontiguousarray(layers), -1, 0).copy()
    ]
    np.testing.assert_allclose(((scaled + 1) / 2)[0].numpy(), np.stack(expected).clip(0, 1), atol=2.5 / 255)


def test_a_grid_of_clear_pictures_is_clear_and_a_mixed_one_white() -> None:
    clear, solid = Image.new("RGBA", (4, 4), (9, 8, 7, 51)), Image.new("RGB", (4, 4), "red")
    sheet = grid([clear, clear], columns=2, gap=2)
    assert [sheet.getpixel(place) for place in ((0, 0), (4, 0))] == [(9, 8, 7, 51), (255, 255, 255, 0)]
    mixed = grid([clear, solid], columns=2, gap=2)
    assert [mixed.getpixel(place) for place in ((0, 0), (4, 0), (6, 0))] == [(206, 206, 205), (255,) * 3, (255, 0, 0)]
