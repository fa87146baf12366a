"""The watermark is read from distorted copies, changes little, and is not found where there is none."""

import io
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from unclip.errors import InputError
from unclip.safety.watermark import SCALES, correlate, detect_watermark, embed_watermark, match, whiten

PAYLOADS = (0, 0xDEADBEEF, 2**32 - 1)


def icon(seed: int, size: int = 256) -> Image.Image:
    """Discs and bars of flat colours on white."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(picture)
    for index in range(8):
        left, top, right, bottom = (generator.uniform((0.1, 0.1, 0.5, 0.5), (0.5, 0.5, 0.9, 0.9)) * size).tolist()
        shape = draw.ellipse if index % 2 else draw.rectangle
        shape((left, top, right, bottom), fill=tuple(generator.integers(0, 256, 3).tolist()))
    return picture


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, quality: int, file_format: str = "JPEG") -> Image.Image:
    file = io.BytesIO()
    picture.save(file, file_format, quality=quality)
    return Image.open(file).convert("RGB")


def page(picture: Image.Image) -> Image.Image:
    shown = scaled(picture, 0.9)
    sheet = Image.new("RGB", (round(1.3 * shown.width), round(1.2 * shown.height)), (240, 242, 245))
    sheet.paste(shown, (25, 16))
    return encoded(sheet, 85)


def noisy(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture) + np.random.default_rng(1).normal(0, 8, (picture.height, picture.width, 3))
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.square(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)).mean()
    return 10 * math.log10(255**2 / error)


@pytest.mark.parametrize(
    "distort",
    [
        pytest.param(lambda picture: picture, id="none"),
        pytest.param(lambda picture: encoded(picture, 80), id="jpeg"),
        pytest.param(lambda picture: encoded(picture, 80, "WEBP"), id="webp"),
        pytest.param(lambda picture: scaled(picture, 0.5), id="half"),
        pytest.param(lambda picture: scaled(picture, 1.5), id="larger"),
        pytest.param(lambda picture: encoded(picture.crop((49, 17, 241, 209)), 80), id="crop-jpeg"),
        pytest.param(lambda picture: encoded(scaled(picture, 0.9), 85), id="screenshot"),
        pytest.param(page, id="page"),
        pytest.param(lambda picture: picture.point([round(0.85 * level) for level in range(256)] * 3), id="dark"),
        pytest.param(lambda picture: picture.filter(ImageFilter.GaussianBlur(1)), id="blur"),
        pytest.param(noisy, id="noise"),
    ],
)
def test_payload_survives(distort: Callable[[Image.Image], Image.Image]) -> None:
    for seed, payload in enumerate(PAYLOADS):
        found = detect_watermark(distort(embed_watermark(icon(seed), payload)))
        assert found.payload == payload
        assert found.is_present
        assert found.false_alarm <= 1e-6


@pytest.mark.parametrize("size", [256, 1024])
def test_mark_is_weak(size: int) -> None:
    """43 dB less what texture adds at most (2.55) and rounding (0.2)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
    white = Image.new("RGB", (size, size), "white")
    assert 40.2 < psnr(noise, embed_watermark(noise, 1)) < 40.7
    assert 42.6 < psnr(white, embed_watermark(white, 1)) < 43.2
    assert 40.2 < psnr(icon(3, size), embed_watermark(icon(3, size), 1)) < 43.2


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_mode_size_and_metadata_stay(mode: str) -> None:
    picture = icon(4).resize((320, 240)).convert(mode)
    picture.info["prompt"] = "a cat"
    first, second = (embed_watermark(picture, 77) for _ in range(2))
    assert (first.mode, first.size, first.info) == (mode, (320, 240), {"prompt": "a cat"})
    assert first.tobytes() == second.tobytes() != picture.tobytes()
    assert detect_watermark(first).payload == 77
    assert detect_watermark(first).is_present


def test_alpha_and_clear_pixels_stay() -> None:
    picture = icon(5)
    picture.putalpha(Image.radial_gradient("L").point([max(0, 255 - 2 * level) for level in range(256)]))
    marked = embed_watermark(picture, 99)
    before, after = np.asarray(picture), np.asarray(marked)
    is_clear = before[..., 3] == 0
    assert 0 < is_clear.mean() < 1
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    np.testing.assert_array_equal(after[is_clear], before[is_clear])
    assert (after[~is_clear] != before[~is_clear]).any(axis=-1).mean() > 0.5
    assert detect_watermark(marked).is_present
    picture.putalpha(0)
    assert embed_watermark(picture, 99).tobytes() == picture.tobytes()


def unmarked() -> Iterator[Image.Image]:
    y, x = np.mgrid[:128, :128]
    for period in (3, 8, 21):
        for shape in (x // period % 2, (x // period + y // period) % 2, 0.5 + 0.5 * np.sin((x + y) / period)):
            yield Image.fromarray(np.rint(shape * 255).astype(np.uint8))
    yield Image.fromarray((x + y).astype(np.uint8))
    yield from (Image.new("RGB", size, "white") for size in ((128, 128), (1, 1), (2, 300)))
    for seed in range(5):
        yield Image.fromarray(np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8))
        yield icon(seed, 128)


def test_unmarked_pictures_have_none() -> None:
    found = [detect_watermark(picture) for picture in unmarked()]
    assert [mark.is_present for mark in found] == [False] * 23
    assert [mark.false_alarm for mark in found] == [1.0] * 23


def test_correlations_without_a_mark_are_normal() -> None:
    """As many lie beyond 2 and 3 deviations as of a normal distribution: 4.55 % and 0.27 %."""
    values = np.abs([correlate(whiten(icon(seed)), scale) for seed in range(4) for scale in SCALES[::6]])
    assert 0.044 < (values > 2).mean() < 0.047
    assert 0.0023 < (values > 3).mean() < 0.0031
    assert 0.98 < np.square(values).mean() < 1.02


def test_scores_without_a_mark_are_those_of_normal_values() -> None:
    """The best of 61 scales lies where that of independent normal values does, whatever the picture."""
    generator = np.random.default_rng(0)
    normal = [match(generator.standard_normal((5, 128, 128)).astype(np.float32))[0] for _ in range(60)]
    scores = [match(correlate(whiten(icon(seed)), scale))[0] for seed in range(2) for scale in SCALES]
    assert abs(np.mean(scores) - np.mean(normal)) < 0.4
    assert max(scores) < 9.5  # 10 is where the bound reaches 1e-6


def test_false_alarm_counts_all_hypotheses() -> None:
    """A weak mark is reported by exp(-t²/2) times 61 scales, 128² positions and 2³² payloads."""
    original, marked = icon(6), embed_watermark(icon(6), 5)
    luma = whiten(noisy(scaled(Image.blend(original, marked, 0.55), 0.75)))
    score = max(match(correlate(luma, scale))[0] for scale in SCALES)
    found = detect_watermark(noisy(scaled(Image.blend(original, marked, 0.55), 0.75)))
    assert found.payload == 5
    assert 10 < score < 30
    assert found.false_alarm == pytest.approx(61 * 128**2 * 2.0**32 * math.exp(-(score**2) / 2), rel=1e-3)


def test_check_bits_refuse_a_mixture_of_two_payloads() -> None:
    """Two marks over each other are read partly from one and partly from the other."""
    picture = icon(7)
    mixture = Image.blend(embed_watermark(picture, 0x01234567), embed_watermark(picture, 0xFEDCBA98), 0.5)
    luma = whiten(mixture)
    assert max(match(correlate(luma, scale))[0] for scale in SCALES) > 15
    found = detect_watermark(mixture)
    assert found.payload not in (0x01234567, 0xFEDCBA98)
    assert found.false_alarm == 1.0


@pytest.mark.parametrize("payload", [-1, 2**32])
def test_payload_has_32_bits(payload: int) -> None:
    with pytest.raises(InputError, match=rf"^payload={payload} does not fit in 32 bits; use 0 to 4294967295\.$"):
        embed_watermark(icon(0), payload)


def test_other_modes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^a picture of mode P takes no watermark; convert it to L, LA, RGB, RGBA\.$"):
        embed_watermark(icon(0).convert("P"), 1)
