"""Pixels: every conversion undoes its inverse, and resizing keeps what it must keep."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from unclip.errors import InputError
from unclip.images import (
    crop_square,
    encode_picture,
    from_pil,
    from_uint8,
    grid,
    resize,
    save_gif,
    save_png,
    to_pil,
    to_uint8,
    to_unit,
)
from unclip.pictures import open_picture

ALL_VALUES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_every_byte_survives_the_round_trip() -> None:
    assert np.array_equal(to_uint8(from_uint8(ALL_VALUES)), ALL_VALUES)


def test_range_and_layout() -> None:
    images = from_uint8(np.array([[[[0, 255, 51]]]], dtype=np.uint8))
    assert images.shape == (1, 3, 1, 1)
    torch.testing.assert_close(images.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    np.testing.assert_allclose(to_unit(images), [[[[0.0, 1.0, 0.2]]]], atol=1e-7)


@given(st.floats(-4, 4))
def test_bytes_are_clamped_and_rounded_to_the_nearest(value: float) -> None:
    byte = int(to_uint8(torch.full((1, 3, 1, 1), value)).flat[0])
    exact = min(max((value + 1) * 127.5, 0.0), 255.0)
    assert byte - exact == pytest.approx(0.0, abs=0.5 + 1e-4)


def test_pil_round_trip() -> None:
    pixels = random_pixels(2, 5, 7, 3)
    images = to_pil(from_uint8(pixels))
    assert [image.size for image in images] == [(7, 5), (7, 5)]
    assert np.array_equal(to_uint8(from_pil(images)), pixels)


def test_a_grey_picture_becomes_rgb() -> None:
    assert torch.equal(from_pil([Image.new("L", (2, 2), 255)]), torch.ones(1, 3, 2, 2))


def test_transparency_lies_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 51))
    assert np.array_equal(to_uint8(from_pil([half])), np.full((1, 2, 2, 3), 204))
    assert np.array_equal(np.asarray(crop_square(half, 1)), np.full((1, 1, 3), 204))


@pytest.mark.parametrize("size", [(30, 10), (10, 30)])
def test_the_middle_of_a_picture_is_kept(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "red")
    picture.paste("lime", ((size[0] - 10) // 2, (size[1] - 10) // 2, (size[0] + 10) // 2, (size[1] + 10) // 2))
    square = crop_square(picture, 10)
    assert square.size == (10, 10)
    assert square.getcolors() == [(100, (0, 255, 0))]


def test_the_middle_of_a_long_strip_takes_no_strip_of_memory() -> None:
    # Resized whole, the strip would be 20,480,000 x 1024 pixels.
    strip = Image.new("RGB", (20_000, 1), "red")
    strip.paste("lime", (9_996, 0, 10_004, 1))
    assert crop_square(strip, 1024).getcolors() == [(1024 * 1024, (0, 255, 0))]


def test_a_batch_of_mixed_sizes_is_explained() -> None:
    with pytest.raises(InputError, match=r"one size; found 2 pictures of sizes \[\(2, 2\), \(3, 2\)\]"):
        from_pil([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))])
    with pytest.raises(InputError, match="found 0 pictures"):
        from_pil([])


@pytest.mark.parametrize("size", [3, 8, 16, (4, 12)])
def test_resize_keeps_constants(size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    resized = resize(torch.full((1, 3, 8, 8), 0.3), size)
    torch.testing.assert_close(resized, torch.full((1, 3, height, width), 0.3), atol=1e-6, rtol=0)


def test_shrinking_does_not_alias() -> None:
    checkers = torch.ones(1, 1, 32, 32)
    checkers[..., ::2, 1::2] = checkers[..., 1::2, ::2] = -1.0
    # Away from the border a fine checkerboard is grey.
    torch.testing.assert_close(resize(checkers, 8)[..., 2:-2, 2:-2], torch.zeros(1, 1, 4, 4), atol=0.02, rtol=0)


def test_shrinking_agrees_with_pillow() -> None:
    pixels = np.asarray(Image.fromarray(random_pixels(4, 4, 3)).resize((32, 32), Image.Resampling.BICUBIC))
    ours = to_uint8(resize(from_uint8(pixels[None]), 12))[0].astype(int)
    theirs = np.asarray(Image.fromarray(pixels).resize((12, 12), Image.Resampling.BICUBIC)).astype(int)
    # The same kernel (a = -0.5); Pillow rounds to bytes between its two passes.
    np.testing.assert_allclose(ours, theirs, atol=1)


def test_resize_keeps_dtype_and_leaves_the_right_size_alone() -> None:
    images = torch.randn(1, 3, 8, 8)
    assert resize(images, 8) is images
    low = resize(images.bfloat16(), 4)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low, resize(images.bfloat16().float(), 4).bfloat16())


def test_grid_places_pictures_row_by_row() -> None:
    colours = ["red", "green", "blue"]
    sheet = grid([Image.new("RGB", (4, 3), colour) for colour in colours], columns=2, gap=2)
    assert sheet.size == (10, 8)
    places = [(0, 0), (6, 0), (0, 5)]
    expected = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours]
    assert [sheet.getpixel(place) for place in places] == expected
    assert sheet.getpixel((4, 0)) == sheet.getpixel((6, 5)) == (255, 255, 255)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InputError, match="found 0"):
        grid([], columns=2)


def test_png_keeps_pixels_and_metadata(tmp_path: Path) -> None:
    image = to_pil(from_uint8(random_pixels(1, 6, 5, 3)))[0]
    metadata = {"prompt": "naïve café, 猫 with “quotes”", "seed": "7"}
    save_png(image, tmp_path / "a.png", metadata)
    with Image.open(tmp_path / "a.png") as loaded:
        assert np.array_equal(np.asarray(loaded), np.asarray(image))
        assert loaded.info == metadata


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    image = to_pil(from_uint8(random_pixels(1, 6, 5, 3)))[0]
    for name in ("a.png", "b.png"):
        save_png(image, tmp_path / name, {"prompt": "x"})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_unwritable_png_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_png(Image.new("RGB", (2, 2)), tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gif_keeps_frames_time_and_metadata(tmp_path: Path) -> None:
    """Two colours fit into a palette of 256, so pixels are exact; what stays the same is shown for twice the time."""
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((250, 0, 7), (3, 200, 90), (3, 200, 90))]
    frames[1].putpixel((1, 2), (255, 255, 255))
    frames[2].putpixel((1, 2), (255, 255, 255))
    save_gif(frames, tmp_path / "new" / "a.gif", {"prompt": "Äpfel 🍎", "seed": "7"}, frame_ms=50)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.gif"]
    with Image.open(tmp_path / "new" / "a.gif") as found:
        assert json.loads(found.info["comment"]) == {"prompt": "Äpfel 🍎", "seed": "7"}
        assert (found.info["loop"], found.info["duration"], found.n_frames) == (0, 50, 2)  # type: ignore[attr-defined]
        assert found.convert("RGB").tobytes() == frames[0].tobytes()
        found.seek(1)
        assert found.info["duration"] == 100
        assert found.convert("RGB").tobytes() == frames[1].tobytes()


def test_an_empty_animation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one picture; found 0"):
        save_gif([], tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_text_that_is_none_is_written_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_picture(Image.new("RGB", (8, 8)), suffix, {"prompt": "half \ud83d"}))
    with Image.open(path) as image:
        found = str(getattr(image, "text", image.getexif().get_ifd(ExifTags.IFD.Exif)))
    assert "ud83d" in found


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "RGBA"), (".webp", "RGBA"), (".jpg", "RGB")])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "PA"])
def test_alpha_is_kept_where_a_format_has_it_and_white_elsewhere(kind: str, suffix: str, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0)).convert(kind)
    with Image.open(io.BytesIO(encode_picture(image, suffix))) as written:
        assert written.convert("RGBA").getpixel((0, 0))[3] == (0 if mode == "RGBA" else 255)  # type: ignore[index]
        if mode == "RGB":
            assert written.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_other_formats_are_refused() -> None:
    with pytest.raises(InputError, match=r"not written as \.tiff"):
        encode_picture(Image.new("RGB", (8, 8)), ".tiff")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kind", ["1", "L", "I;16", "F", "CMYK", "HSV", "YCbCr"])
def test_every_mode_is_written_as_a_viewer_would_show_it(kind: str, suffix: str) -> None:
    grey = Image.new("L", (8, 8), 255)
    image = grey.point(lambda value: value * 257, "I").convert("I;16") if kind == "I;16" else grey.convert(kind)
    with Image.open(io.BytesIO(encode_picture(image, suffix))) as written:
        assert open_picture(written).getpixel((3, 3)) == (255, 255, 255)
