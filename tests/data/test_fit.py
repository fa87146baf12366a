"""Pictures made one size: which part is kept, nothing is enlarged unasked, and no frequency comes back as another."""

import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pictures import picture
from unclip.data import PictureFormat, fit_picture
from unclip.data.prepare import Crop
from unclip.errors import DataError, InputError


def stripes(period: float, side: int) -> Image.Image:
    """Vertical sine stripes between black and white, `period` pixels wide."""
    values = 127.5 + 127.5 * np.sin(2 * np.pi * (np.arange(side) + 0.25) / period)
    return Image.fromarray(np.broadcast_to(values.round()[None, :, None], (side, side, 3)).astype(np.uint8))


# Finer than 1.5 pixels of the result, which is a third above Nyquist: 5 % of the contrast is what Lanczos leaves there,
# and without a low pass such stripes come back as coarser ones.
@pytest.mark.parametrize("side", [512, 1000])
def test_frequencies_above_nyquist_come_out_grey(side: int) -> None:
    contrast = 127.5 / 2**0.5
    for period in np.linspace(2.02, 1.5 * side / 64, 60):
        small = np.asarray(fit_picture(stripes(period, side), 64, "center"), dtype=float)[:, 4:-4]
        assert small.std() <= 0.051 * contrast, period
        assert abs(small.mean() - 127.5) < 2, period
    nearest = np.asarray(stripes(period, side).resize((64, 64), Image.Resampling.NEAREST), dtype=float)
    assert nearest.std() > 0.9 * contrast


@pytest.mark.parametrize("crop", ["shortest", "pad", "stretch"])
def test_every_rule_scales_alike(crop: Crop) -> None:
    for period in (2.5, 10.0, 16.0, 40.0):
        expected = np.asarray(fit_picture(stripes(period, 512), 64, "center"))
        np.testing.assert_array_equal(np.asarray(fit_picture(stripes(period, 512), 64, crop)), expected)


def test_frequencies_below_nyquist_stay() -> None:
    small = np.asarray(fit_picture(stripes(64, 512), 64, "center"), dtype=float)
    assert abs(small.std() - 127.5 / 2**0.5) < 3


@pytest.mark.parametrize(
    ("crop", "size"), [("center", (32, 32)), ("shortest", (32, 64)), ("pad", (32, 32)), ("stretch", (32, 32))]
)
def test_sizes(crop: Crop, size: tuple[int, int]) -> None:
    assert fit_picture(picture(0, 100, 200), 32, crop).size == size


def test_none_changes_nothing() -> None:
    assert fit_picture(picture(0, 10, 20), 32, "none").tobytes() == picture(0, 10, 20).tobytes()


def halves(width: int, height: int) -> Image.Image:
    """A blue picture with a red middle as large as its centre square."""
    whole = Image.new("RGB", (width, height), "blue")
    side = min(width, height)
    whole.paste("red", ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    return whole


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96), (64, 64)])
def test_center_keeps_the_middle_alone(width: int, height: int) -> None:
    colours = fit_picture(halves(width, height), 32, "center").getcolors()
    assert colours == [(32 * 32, (255, 0, 0))]


def test_pad_keeps_all_on_white() -> None:
    padded = fit_picture(Image.new("RGB", (64, 32), "blue"), 32, "pad")
    assert sorted(padded.getcolors() or []) == [(512, (0, 0, 255)), (512, (255, 255, 255))]
    assert padded.crop((0, 8, 32, 24)).getcolors() == [(512, (0, 0, 255))]


@pytest.mark.parametrize("crop", ["center", "shortest", "stretch"])
def test_nothing_is_enlarged_unless_asked(crop: Crop) -> None:
    with pytest.raises(DataError, match="it is 31 x 90 pixels, smaller than 32"):
        fit_picture(picture(0, 31, 90), 32, crop)
    assert min(fit_picture(picture(0, 31, 90), 32, crop, allow_upscale=True).size) == 32


def test_pad_leaves_small_pictures_at_their_size() -> None:
    small = picture(0, 10, 20)
    assert fit_picture(small, 32, "pad").crop((11, 6, 21, 26)).tobytes() == small.tobytes()
    assert fit_picture(small, 32, "pad", allow_upscale=True).getpixel((16, 0)) != (255, 255, 255)


def test_sizes_below_one_are_refused() -> None:
    for crop in get_args(Crop):
        with pytest.raises(InputError, match="image_size=0 is not a size"):
            fit_picture(picture(0), 0, crop)


# 40 dB is a mean error of 2.55 of 255.
@pytest.mark.parametrize(("suffix", "form"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_formats(suffix: str, form: str) -> None:
    original = picture(0)
    content = PictureFormat.model_validate({"suffix": suffix}).encode(original)
    with Image.open(io.BytesIO(content)) as file:
        assert (file.format, file.mode, file.size) == (form, "RGB", (64, 64))
        error = np.asarray(file, dtype=float) - np.asarray(original, dtype=float)
    assert float(np.square(error).mean()) < (1e-9 if suffix == "png" else 2.55**2)


def test_quality_saves_bytes() -> None:
    for suffix in ("webp", "jpg"):
        sizes = [
            len(PictureFormat.model_validate({"suffix": suffix, "quality": quality}).encode(picture(0)))
            for quality in (30, 95)
        ]
        assert sizes[0] < sizes[1]
