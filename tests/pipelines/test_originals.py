"""Painting into pictures of every mode: what stays has its values, its alpha and its profile; what is new is opaque."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from unclip.images import save_png
from unclip.pictures import on_white, open_picture
from unclip.pipelines import UnClip
from unclip.pipelines.tasks.painting import open_editable, recolour

SIZE = (24, 20)
QUICK: dict[str, Any] = {"seed": 3, "image_size": 16, "num_steps": 1}


def hole() -> np.ndarray:
    rows, columns = np.indices((20, 24))
    return (columns >= 6) & (columns < 15) & (rows > 3)


def mask() -> Image.Image:
    return Image.fromarray(hole().astype(np.uint8) * 255)


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (20, 24, *shape), dtype=dtype, endpoint=True)


def with_key(picture: Image.Image, key: Any) -> Image.Image:
    picture.info["transparency"] = key
    return picture


def swapped_profile() -> bytes:
    """sRGB with red and green in each other's place, under another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = profile.replace("sRGB".encode("utf-16-be"), b"\0m\0i\0n\0e")
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def pictures() -> dict[str, Image.Image]:
    """One of each mode whose pixels have room for new colours."""
    found = {
        "L": Image.fromarray(noise()),
        "LA": Image.fromarray(noise(2)),
        "RGB": Image.fromarray(noise(3)),
        "RGBA": Image.fromarray(noise(4)),
        "CMYK": Image.frombytes("CMYK", SIZE, noise(4).tobytes()),
        "I;16": Image.fromarray(noise(dtype=np.uint16)),
        "I": Image.fromarray(noise(dtype=np.uint16).astype(np.int32)),
        "F": Image.fromarray(np.random.default_rng(1).random((20, 24), dtype=np.float32)),
        "L, key": with_key(Image.fromarray(noise() & 0xF0), 0x40),
        "RGB, key": with_key(Image.fromarray(noise(3) & 0x80), (0, 128, 0)),
        "I;16, key": with_key(Image.fromarray(noise(dtype=np.uint16) & 0xF000), 0x4000),
        "RGB, profile": Image.fromarray(noise(3)),
        "RGBA, profile": Image.fromarray(noise(4)),
    }
    for name, picture in found.items():
        if name.endswith("profile"):
            picture.info["icc_profile"] = swapped_profile()
    return found


@pytest.mark.parametrize("kind", sorted(pictures()))
def test_inpainting_keeps_mode_alpha_and_every_value(pipe: UnClip, kind: str) -> None:
    picture = pictures()[kind]
    (result,) = pipe.inpaint(picture, mask(), "a red apple", **QUICK).images
    before, after = np.asarray(picture), np.asarray(result)
    assert (result.mode, result.size, result.info) == (picture.mode, SIZE, picture.info)
    assert np.array_equal(after[~hole()], before[~hole()])
    painted, stayed = np.asarray(open_picture(result)), np.asarray(open_picture(picture))
    if painted.shape[-1] == 4:
        assert (painted[hole()][:, 3] == 255).all()
        assert np.array_equal(painted[~hole()], stayed[~hole()])
    assert np.mean((painted[..., :3] != stayed[..., :3])[hole()]) > 0.5


@pytest.mark.parametrize("kind", sorted(pictures()))
def test_outpainting_keeps_mode_alpha_and_every_value(pipe: UnClip, kind: str) -> None:
    picture = pictures()[kind]
    (result,) = pipe.outpaint(picture, "a red apple", left=5, bottom=3, **QUICK).images
    assert (result.mode, result.size, result.info) == (picture.mode, (29, 23), picture.info)
    assert np.array_equal(np.asarray(result)[:20, 5:], np.asarray(picture))
    beyond = np.asarray(open_picture(result))[:, :5]
    assert beyond[..., :3].std() > 1
    if beyond.shape[-1] == 4:
        assert (beyond[..., 3] == 255).all()


@pytest.mark.parametrize("kind", sorted(pictures()))
def test_the_colours_painted_are_the_same_in_every_mode(pipe: UnClip, kind: str) -> None:
    """Of the same picture in RGB the same pixels are drawn, and their mode's nearest colours are put in."""
    picture = pictures()[kind]
    plain = on_white(open_picture(picture))
    one, other = (pipe.inpaint(each, mask(), "a red apple", **QUICK).images[0] for each in (picture, plain))
    expected = recolour(other, open_editable(picture))
    assert np.array_equal(np.asarray(one)[hole()], np.asarray(expected)[hole()])
    found = np.asarray(open_picture(one), dtype=float)[hole()][:, :3]
    wanted = np.asarray(other if picture.mode in ("RGB", "RGBA", "CMYK") else other.convert("L").convert("RGB"))
    np.testing.assert_allclose(found, wanted[hole()], atol=3)


@pytest.mark.parametrize("kind", ["LA", "RGBA", "I;16, key", "CMYK", "RGB, profile"])
@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_numbers_are_those_of_the_picture_on_white(pipe: UnClip, kind: str, output_type: Any) -> None:
    picture = pictures()[kind]
    (found,) = pipe.inpaint(picture, mask(), "a red apple", output_type=output_type, **QUICK).images
    pixels = found if output_type == "np" else (found.permute(1, 2, 0).numpy() + 1) / 2
    whole = on_white(open_picture(picture))
    assert np.array_equal(np.rint(pixels * 255)[~hole()], np.asarray(whole)[~hole()])
    (beyond,) = pipe.outpaint(picture, left=5, output_type=output_type, **QUICK).images
    pixels = beyond if output_type == "np" else (beyond.permute(1, 2, 0).numpy() + 1) / 2
    assert np.array_equal(np.rint(pixels * 255)[:, 5:], np.asarray(whole))


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("mode", "wider"), [("1", ("L", "LA")), ("P", ("RGB", "RGBA"))])
def test_what_has_no_room_for_new_colours_is_widened_without_a_loss(
    pipe: UnClip, mode: str, wider: tuple[str, str], transparent: bool
) -> None:
    picture = Image.fromarray(noise(3)).quantize(7) if mode == "P" else Image.fromarray(noise()).convert("1")
    if transparent:
        picture.info["transparency"] = 3 if mode == "P" else 255
    (result,) = pipe.inpaint(picture, mask(), "a red apple", **QUICK).images
    assert result.mode == wider[transparent]
    assert np.array_equal(np.asarray(result)[~hole()], np.asarray(picture.convert(result.mode))[~hole()])


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "RGBa"])
def test_rare_modes_become_rgb_first(pipe: UnClip, mode: str) -> None:
    alpha = mode == "RGBa"
    if mode == "LAB":
        picture = Image.frombytes("LAB", SIZE, noise(3).tobytes())
    else:
        picture = pictures()["RGBA" if alpha else "RGB"].convert(mode)
    (result,) = pipe.inpaint(picture, mask(), "a red apple", **QUICK).images
    assert result.mode == ("RGBA" if alpha else "RGB")
    assert np.array_equal(np.asarray(result)[~hole()], np.asarray(open_picture(picture))[~hole()])


def test_a_mask_that_selects_nothing_gives_the_original_back(pipe: UnClip) -> None:
    for picture in pictures().values():
        (result,) = pipe.inpaint(picture, Image.new("L", SIZE), **QUICK).images
        assert (result.mode, result.tobytes(), result.info) == (picture.mode, picture.tobytes(), picture.info)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_stay_in_files_of_either_order(pipe: UnClip, tmp_path: Path, order: str) -> None:
    values = noise(dtype=np.uint16)
    Image.fromarray(values.astype(order)).save(tmp_path / "deep.tif")
    (result,) = pipe.inpaint(tmp_path / "deep.tif", mask(), **QUICK).images
    save_png(result, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as again:
        assert again.mode == "I;16"
        assert np.array_equal(np.asarray(again)[~hole()], values[~hole()])


def test_a_photograph_stands_upright_and_keeps_its_pixels(pipe: UnClip, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(3)).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    (result,) = pipe.inpaint(tmp_path / "turned.png", mask(), **QUICK).images
    assert np.array_equal(np.asarray(result)[~hole()], noise(3)[~hole()])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L"])
def test_a_broken_profile_is_no_obstacle(pipe: UnClip, mode: str) -> None:
    picture = pictures()[mode]
    picture.info["icc_profile"] = b"nonsense"
    (result,) = pipe.inpaint(picture, mask(), **QUICK).images
    assert result.mode == mode
    assert np.array_equal(np.asarray(result)[~hole()], np.asarray(picture)[~hole()])


def test_a_new_pixel_is_never_the_transparent_colour() -> None:
    for mode, key in (("L", 255), ("L", 0), ("RGB", (7, 7, 7)), ("RGB", (7, 7, 0)), ("I;16", 65535), ("I;16", 0)):
        original = with_key(Image.new(mode, (2, 2)), key)
        level = (key if isinstance(key, int) else key[2]) // (257 if mode == "I;16" else 1)
        pixels = Image.new("RGB", (2, 2), key if isinstance(key, tuple) else (level,) * 3)
        painted = np.asarray(recolour(pixels, open_editable(original)), dtype=int)
        assert np.abs(painted - np.array(key)).reshape(4, -1).max(axis=1).tolist() == [1] * 4


def test_what_png_has_no_mode_for_is_written_in_rgb(tmp_path: Path) -> None:
    for kind in ("CMYK", "I", "F"):
        save_png(pictures()[kind], tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as again:
            assert np.array_equal(np.asarray(again), np.asarray(open_picture(pictures()[kind])))
