"""Pictures as people have them: each kind comes out with the colours a viewer shows, or is refused in one line."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from unclip.errors import InputError
from unclip.pictures import MAX_PIXELS, on_white, open_picture, open_pictures

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
ORIENTATION = 0x0112


def corners(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    pixels = np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and brings next to no pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def one_line(source: Path | Image.Image, read: Callable[[Path | Image.Image], object] = open_picture) -> str:
    """What the refusal says; it is one line."""
    with pytest.raises(InputError) as error:
        read(source)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_every_common_format_is_read_and_closed(suffix: str, tmp_path: Path) -> None:
    corners().save(tmp_path / f"a.{suffix}", lossless=True)
    picture = open_picture(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").write_bytes(b"")
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), np.asarray(corners()))


UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photograph_stands_upright(orientation: int, tmp_path: Path) -> None:
    exif, undo = Image.Exif(), UPRIGHT[orientation]
    exif[ORIENTATION] = orientation
    corners().save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    expected = corners() if undo is None else corners().transpose(undo)
    picture = open_picture(tmp_path / "a.jpg")
    np.testing.assert_allclose(np.asarray(picture, dtype=int), np.asarray(expected, dtype=int), atol=4)


def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*nonsense")
    assert open_picture(tmp_path / "a.jpg").getcolors() == [(64, WHITE)]


@pytest.mark.parametrize(("name", "order"), [("a.png", "<u2"), ("a.tif", "<u2"), ("b.tif", ">u2"), ("a.pgm", "<u2")])
def test_sixteen_bits_are_scaled_and_not_clipped(name: str, order: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], dtype=order)).save(tmp_path / name)
    expected = np.array([[0, 1, 128, 255]]).repeat(3).reshape(1, 4, 3)
    assert np.array_equal(np.asarray(open_picture(tmp_path / name)), expected)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_the_white_they_fit(white: float, tmp_path: Path) -> None:
    values = np.array([[0.0, 0.2, 1.0, -1.0]], dtype=np.float32) * white
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(open_picture(tmp_path / "a.tif"))[0, :, 0], [0, 51, 255, 0])


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_ink_is_not_inverted(suffix: str, tmp_path: Path) -> None:
    inks = {(0, 255, 255, 0): RED, (0, 0, 0, 255): BLACK, (0, 0, 0, 0): WHITE}
    for ink, colour in inks.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / f"a.{suffix}")
        (count, found), *others = open_picture(tmp_path / f"a.{suffix}").getcolors() or []
        assert (count, others) == (256, [])
        np.testing.assert_allclose(found, colour, atol=2)


def test_lab_is_converted_by_its_meaning(tmp_path: Path) -> None:
    # sRGB's red has L* = 54.29, a* = 80.81, b* = 69.89 under D50; Pillow adds 128 to the last two, and rounds all.
    Image.new("LAB", (2, 2), (round(54.29 * 2.55), 128 + 81, 128 + 70)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(open_picture(tmp_path / "a.tif").getpixel((0, 0)), RED, atol=6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_an_embedded_profile_become_srgb(mode: str) -> None:
    picture = Image.new(mode, (2, 2), (200, 100, 50, 77)[: len(mode)])
    picture.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_picture(picture).getpixel((0, 0)) == picture.getpixel((0, 0))

    # The same profile under another name is converted, to the same colours.
    picture.info["icc_profile"] = picture.info["icc_profile"].replace("sRGB".encode("utf-16-be"), b"\0m\0i\0n\0e")
    np.testing.assert_allclose(open_picture(picture).getpixel((0, 0)), picture.getpixel((0, 0)), atol=1)

    # Red and green in each other's place, to show that the profile is used.
    profile = bytearray(picture.info["icc_profile"])
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    picture.info["icc_profile"] = bytes(profile)
    expected = (100, 200, 50, 77)[: len(mode)]
    np.testing.assert_allclose(open_picture(picture).getpixel((0, 0)), expected, atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_a_broken_profile_counts_as_none(mode: str) -> None:
    picture = Image.new("RGB", (2, 2), "white").convert(mode)
    picture.info["icc_profile"] = b"nonsense"
    assert open_picture(picture).getcolors() == [(4, WHITE)]


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert open_picture(tmp_path / name).getcolors() == [(64, RED)]


def test_transparency_is_kept(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (2, 1), (*RED, 255))
    clear.putpixel((1, 0), (*BLUE, 0))
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    clear.save(tmp_path / "rgba.png")
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "palette.gif", transparency=1)
    palette.convert("RGB").save(tmp_path / "colour.png", transparency=BLUE)
    for path in tmp_path.iterdir():
        picture = open_picture(path)
        assert picture.mode == "RGBA"
        assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(*RED, 255), (*BLUE, 0)], path.name
        assert np.array_equal(np.asarray(on_white(picture)), [[RED, WHITE]])


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 20_000)])
def test_small_and_long_pictures_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("L", size, 7).save(tmp_path / "a.png")
    picture = open_picture(tmp_path / "a.png")
    assert picture.size == size
    assert picture.getcolors() == [(size[0] * size[1], (7, 7, 7))]


def test_a_picture_of_pillows_is_left_as_it_is() -> None:
    given = Image.new("P", (3, 2))
    given.info["transparency"] = 0
    exif = given.getexif()
    exif[ORIENTATION] = 6
    picture = open_picture(given)
    assert (picture.mode, picture.size, picture.info) == ("RGBA", (2, 3), {})
    assert (given.mode, given.size, given.info, dict(given.getexif())) == (
        "P",
        (3, 2),
        {"transparency": 0},
        {ORIENTATION: 6},
    )
    same = Image.new("RGB", (2, 2), "red")
    open_picture(same).paste("lime", (0, 0, 2, 2))
    assert same.getcolors() == [(4, RED)]


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((60_000, 60_000), "3600000000 pixels"),
        ((20_000, 20_000), "400000000 pixels"),
        ((12_000, 12_000), "12000 x 12000 pixels"),
    ],
)
def test_a_bomb_is_refused_unopened(size: tuple[int, int], found: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size))
    assert one_line(tmp_path / "a.png").endswith(f"a.png has {found}; a picture has 1 to {MAX_PIXELS}: resize it.")


def test_a_large_photograph_is_no_bomb(tmp_path: Path) -> None:
    # 108 million pixels: Pillow alone would warn. There are no pixels in the file, so it is cut short instead.
    (tmp_path / "a.png").write_bytes(png_header(12_000, 9_000))
    assert "cannot be read (image file is truncated" in one_line(tmp_path / "a.png")


def test_a_picture_without_pixels_is_refused() -> None:
    assert one_line(Image.new("RGB", (0, 5))).startswith("the picture has 0 x 5 pixels")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    for path in tmp_path.iterdir():
        assert one_line(path) == f"{path} is not a picture that can be read; give PNG, JPEG or WebP."
    assert "nowhere.png cannot be read (No such file or directory)" in one_line(tmp_path / "nowhere.png")
    assert "cannot be read (Is a directory)" in one_line(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif"])
def test_a_file_cut_short_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    noise.save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    for length in range(0, len(whole) * 3 // 4, max(1, len(whole) // 40)):
        (tmp_path / f"a.{suffix}").write_bytes(whole[:length])
        assert f"a.{suffix} " in one_line(tmp_path / f"a.{suffix}")


def test_one_picture_or_several_are_opened(tmp_path: Path) -> None:
    corners((2, 2)).save(tmp_path / "a.png")
    one, several = open_pictures(tmp_path / "a.png"), open_pictures((str(tmp_path / "a.png"), corners((4, 4))))
    assert [picture.size for picture in one + several] == [(2, 2), (2, 2), (4, 4)]
    with pytest.raises(InputError, match="no picture was given"):
        open_pictures([])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_on_white_has_the_colours_of_open_picture(mode: str) -> None:
    """Pillow alone clips what has more than 8 bits."""
    if mode in ("I;16", "I", "F"):
        values = np.array([[0, 100 * 257, 65535]])
        picture = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        picture = corners().convert(mode)
    found = on_white(picture)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(open_picture(picture).convert("RGB")))
