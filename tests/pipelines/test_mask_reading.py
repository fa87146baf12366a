"""Masks that people give: which part they mark, by white or by transparency, and what is refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unclip.errors import InputError
from unclip.images import from_pil
from unclip.pictures import open_picture
from unclip.pipelines.options import describe
from unclip.pipelines.tasks.inpaint import MaskKind, mask_of_alpha, open_mask

SIZE = (64, 64)


def disc(mode: str = "L") -> Image.Image:
    """A soft white disc on black, 64 x 64."""
    y, x = np.mgrid[:64, :64] - 31.5
    return Image.fromarray(np.uint8(255 * np.clip(20.5 - np.hypot(x, y), 0, 1))).convert(mode)


DISC = np.where(np.asarray(disc()) >= 128, 255, 0)
BACKGROUND = 255 - DISC


def clear(colour: Any, hole: Image.Image | None = None, beneath: Any = (0, 0, 0)) -> Image.Image:
    """One colour, of which `hole` (a disc) is transparent."""
    hole = hole or disc()
    picture = Image.new("RGB", SIZE, colour)
    picture.paste(beneath, (0, 0, *SIZE), hole)
    picture.putalpha(hole.point([255 - value for value in range(256)]))
    return picture


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def read(mask: Image.Image | Path, kind: MaskKind | None = None) -> np.ndarray:
    return np.asarray(open_mask(mask, SIZE, kind)[0])


def refusal(mask: Image.Image | Path, kind: Any = None, size: tuple[int, int] = SIZE) -> str:
    with pytest.raises(InputError) as error:
        open_mask(mask, size, kind)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_a_mask_without_transparency_marks_by_white(mode: str) -> None:
    hole, kind = open_mask(disc(mode), SIZE)
    assert (hole.mode, kind) == ("L", "white")
    assert np.array_equal(np.asarray(hole), DISC)
    assert np.array_equal(read(disc(mode), "white"), DISC)


def test_a_mask_is_read_from_files_of_any_depth(tmp_path: Path) -> None:
    disc().point([0] * 128 + [255] * 128, "1").save(tmp_path / "bits.png")
    Image.fromarray(np.asarray(disc()).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    disc().save(tmp_path / "photo.jpg", quality=95)
    for path in tmp_path.iterdir():
        assert np.array_equal(read(path), DISC), path.name


@pytest.mark.parametrize("colour", ["black", "white", "red", (90, 90, 90)])
@pytest.mark.parametrize("beneath", ["black", "white"])
def test_a_hole_in_one_colour_is_the_hole(colour: Any, beneath: str) -> None:
    """OpenAI's convention, whatever the colour, and whatever stands where nothing shows."""
    hole, kind = open_mask(clear(colour, beneath=beneath), SIZE)
    assert kind == "alpha"
    assert np.array_equal(np.asarray(hole), DISC)


def test_a_hole_is_the_hole_in_every_mode_and_file(tmp_path: Path) -> None:
    hard = disc().point([0] * 128 + [255] * 128)
    opaque = hard.point([255 - value for value in range(256)])
    clear("black", hard).save(tmp_path / "rgba.png")
    Image.merge("LA", (Image.new("L", SIZE, 255), opaque)).save(tmp_path / "la.png")
    clear((40, 40, 40), hard).save(tmp_path / "lossy.webp", quality=60)
    palette = opaque.point([0] * 128 + [1] * 128)
    palette.putpalette([9, 9, 9, 255, 255, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    palette.save(tmp_path / "palette.gif", transparency=0)
    opaque.save(tmp_path / "grey_key.png", transparency=0)
    opaque.convert("RGB").save(tmp_path / "colour_key.png", transparency=(0, 0, 0))
    opaque.convert("1").save(tmp_path / "bits_key.png", transparency=0)
    for path in sorted(tmp_path.iterdir()):
        hole, kind = open_mask(path, SIZE)
        assert kind == "alpha", path.name
        assert np.array_equal(np.asarray(hole), DISC), path.name


def test_a_picture_with_a_hole_marks_the_hole() -> None:
    """Read by white it would be refused, since it looks like a picture."""
    cutout = photo()
    cutout.putalpha(clear("black").getchannel("A"))
    assert np.array_equal(read(cutout), DISC)
    assert "looks like a picture" in refusal(cutout, "white")


def both() -> Image.Image:
    """White and black beside a transparent disc."""
    picture = clear("black")
    picture.paste((255, 255, 255, 255), (0, 0, 64, 8))
    return picture


def test_black_and_white_beside_something_clear_can_be_read_in_both_ways() -> None:
    stripe = np.zeros((64, 64), np.uint8)
    stripe[:8] = 255
    assert refusal(both()) == (
        f"the mask can be read in two ways: paint what is transparent ({np.mean(DISC > 0):.0%} of it), as OpenAI does, "
        'or what is white (12%); say which by mask_kind="alpha" or "white" (--mask-is alpha or white).'
    )
    assert np.array_equal(read(both(), "white"), stripe)
    assert np.array_equal(read(both(), "alpha"), DISC)


@pytest.mark.parametrize("alpha", [0, 1, 127])
def test_a_mask_without_an_opaque_pixel_can_be_read_in_both_ways(alpha: int) -> None:
    """As an RGBA colour whose alpha was thought to be of 1."""
    mask = Image.new("RGBA", SIZE, (255, 255, 255, alpha))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 20))
    assert "paint what is transparent (100% of it), as OpenAI does, or what is white (0%)" in refusal(mask)
    assert (read(mask, "alpha") == 255).all()


@pytest.mark.parametrize("alpha", [128, 254, 255])
def test_what_is_hardly_transparent_is_opaque(alpha: int) -> None:
    mask = disc("RGBA")
    mask.paste((0, 0, 0, alpha), (0, 0, 64, 4))
    assert np.array_equal(read(mask), DISC)


def test_by_white_what_is_clear_is_kept() -> None:
    mask = Image.new("RGBA", SIZE, "white")
    mask.putalpha(disc())
    assert np.array_equal(read(mask, "white"), DISC)
    assert np.array_equal(read(mask, "alpha"), BACKGROUND)
    assert np.array_equal(read(mask), BACKGROUND)


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_one_value_is_a_mask(value: int) -> None:
    assert open_mask(Image.new("L", (3, 2), value), (3, 2))[0].getcolors() == [(6, value)]


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    assert refusal(disc(), size=(32, 48)) == "the mask is 64 x 64 pixels and the picture 32 x 48; resize the mask."
    Image.linear_gradient("L").resize(SIZE).save(tmp_path / "ramp.png")
    assert refusal(tmp_path / "ramp.png").startswith(f"the mask {tmp_path}/ramp.png looks like a picture")
    assert "its brightest grey is 1 of 255" in refusal(disc().point([0] * 128 + [1] * 128))
    for mode in ("L", "RGBA"):
        assert "the mask has nothing transparent, by which it is to be read" in refusal(disc(mode), "alpha")
    (mask_kind,) = (option for option in describe("inpaint") if option.name == "mask_kind")
    with pytest.raises(InputError, match="there is no mask_kind 'alhpa'; did you mean 'alpha'"):
        mask_kind.check("alhpa")


def test_the_clear_part_of_a_picture_is_a_mask() -> None:
    assert mask_of_alpha(open_picture(photo())) is None
    opaque = photo()
    opaque.putalpha(255)
    assert mask_of_alpha(open_picture(opaque)) is None
    mask = mask_of_alpha(open_picture(clear("red")))
    assert mask is not None
    assert mask.mode == "L"
    assert np.array_equal(np.asarray(mask), DISC)
    assert from_pil([mask]).shape == (1, 3, 64, 64)
