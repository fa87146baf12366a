"""Outpainting on the tiny model: what stays, what is painted once, seeds, memory, progress and refusals."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from unclip.errors import InputError
from unclip.pipelines import UnClip

PROMPT = "a red apple"


def noisy(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return noisy(20, 20)


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (60, 8)])
@pytest.mark.parametrize(
    "margins", [{"left": 9}, {"right": 40}, {"top": 1}, {"bottom": 17}, {"left": 3, "right": 5, "top": 21, "bottom": 2}]
)
def test_the_picture_stays_to_the_bit_and_the_rest_is_painted(
    pipe: UnClip, size: tuple[int, int], margins: dict[str, int]
) -> None:
    picture = noisy(*size)
    result = pipe.outpaint(picture, PROMPT, seed=3, image_size=16, num_steps=1, **margins)
    image = np.asarray(result.images[0])
    left, top = margins.get("left", 0), margins.get("top", 0)
    width, height = size
    assert image.shape == (top + height + margins.get("bottom", 0), left + width + margins.get("right", 0), 3)
    assert np.array_equal(image[top : top + height, left : left + width], np.asarray(picture))
    beyond = np.ones(image.shape[:2], bool)
    beyond[top : top + height, left : left + width] = False
    # What no window reached would be black.
    assert (image[beyond] == 0).all(axis=1).mean() < 0.1


def test_one_window_is_inpainting(pipe: UnClip) -> None:
    picture = noisy(32, 24)
    whole, white = Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255)
    whole.paste(picture, (0, 5))
    white.paste(0, (0, 5, 32, 29))
    outpainted = pipe.outpaint(picture, PROMPT, 2, top=5, bottom=3, seed=3)
    inpainted = pipe.inpaint(whole, white, PROMPT, 2, seed=3)
    assert [one.tobytes() for one in outpainted.images] == [other.tobytes() for other in inpainted.images]


def test_windows_are_inpainted_in_turn_with_one_generator(pipe: UnClip) -> None:
    """Two windows of 32 on the right: the first is what a shorter extension paints, and the second leaves it alone."""
    picture = noisy(32, 32)
    near, far = (np.asarray(pipe.outpaint(picture, PROMPT, right=by, seed=3).images[0]) for by in (16, 32))
    assert near.shape == (32, 48, 3)
    assert np.array_equal(far[:, :48], near)
    again = np.asarray(pipe.outpaint(Image.fromarray(near), PROMPT, right=16, seed=3).images[0])
    assert not np.array_equal(again[:, 48:], far[:, 48:])


@pytest.mark.parametrize(
    ("size", "aspect", "expected", "corner"),
    [
        ((32, 32), (16, 9), (57, 32), (12, 0)),
        ((32, 32), (9, 16), (32, 57), (0, 12)),
        ((50, 37), (1, 1), (50, 50), (0, 6)),
        ((8, 60), (1, 6), (10, 60), (1, 0)),
        ((40, 30), (2, 1), (60, 30), (10, 0)),
    ],
)
def test_an_aspect_extends_the_shorter_way_on_both_sides(
    pipe: UnClip,
    size: tuple[int, int],
    aspect: tuple[int, int],
    expected: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    picture = noisy(*size)
    result = pipe.outpaint(picture, PROMPT, aspect=aspect, seed=3, image_size=16, num_steps=1)
    assert result.images[0].size == expected
    inside = result.images[0].crop((*corner, corner[0] + size[0], corner[1] + size[1]))
    assert inside.tobytes() == picture.tobytes()
    margins = {side: result.settings[side] for side in ("left", "top", "right", "bottom")}
    assert (margins["left"], margins["top"]) == corner
    assert margins["left"] + size[0] + margins["right"] == expected[0]
    assert 0 <= margins["right"] - margins["left"] <= 1


@pytest.mark.parametrize(
    ("size", "margins", "window", "side"),
    [
        ((50, 37), {"right": 9}, None, 37),  # the shorter side of a large picture
        ((5, 5), {"right": 40, "top": 40}, None, 32),  # what is drawn, for a small one
        ((5, 5), {"right": 9, "top": 9}, None, 14),  # as far as the canvas has room
        ((60, 8), {"right": 9}, None, 8),
        ((50, 37), {"right": 9}, 20, 20),
    ],
)
def test_how_large_windows_are(
    pipe: UnClip, size: tuple[int, int], margins: dict[str, int], window: int | None, side: int
) -> None:
    result = pipe.outpaint(noisy(*size), PROMPT, window=window, seed=3, num_steps=1, **margins)
    assert result.settings["window"] == side


def test_seeds(pipe: UnClip, picture: Image.Image) -> None:
    two = pipe.outpaint(picture, num_images=2, left=30, seed=3)
    assert two.seeds == [3, 4]
    for image, seed in zip(two.images, two.seeds, strict=True):
        assert pipe.outpaint(picture, left=30, seed=seed).images[0].tobytes() == image.tobytes()
    assert two.images[0].tobytes() != two.images[1].tobytes()


def test_without_a_prompt_clip_looks_at_the_picture(pipe: UnClip, picture: Image.Image) -> None:
    result = pipe.outpaint(picture, left=30, seed=3, num_steps=1, output_type="np")
    assert np.array_equal(result.image_embeddings.numpy(), pipe.clip.encode_pictures([picture]).numpy())
    assert "prior" not in result.settings
    assert np.array_equal(np.rint(result.images[0][:, 30:] * 255), np.asarray(picture))


def test_progress_counts_the_steps_of_all_windows(pipe: UnClip) -> None:
    seen: list[tuple[str, int, int]] = []
    pipe.outpaint(noisy(32, 32), PROMPT, 2, left=16, right=16, seed=3, progress=lambda *step: seen.append(step))
    expected = [("prior", done, 6) for done in range(1, 7)]
    for window in range(2):
        # 3 steps, of which the first 2 are made twice, for each of 2 pictures.
        expected += [("decoder", 10 * window + done, 20) for done in range(1, 11)]
        expected += [("upsampler_32", 4 * window + done, 8) for done in range(1, 5)]
    assert seen == expected


def test_stopping_leaves_nothing(pipe: UnClip, picture: Image.Image) -> None:
    before = picture.tobytes()

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "upsampler_32" and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.outpaint(picture, PROMPT, left=30, seed=3, progress=stop)
    assert picture.tobytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to extend: left, right, top and bottom are all 0"),
        ({"aspect": (1, 1)}, r"nothing to extend: aspect=\(1, 1\) is the picture's own"),
        ({"aspect": (16, 0)}, r"aspect=\(16, 0\) is not possible"),
        ({"aspect": (10**400, 1)}, "has more than 134217728 pixels; extend less"),
        ({"aspect": (16, 9), "left": 3}, "aspect and pixels were both given"),
        ({"left": -3}, "left=-3 is not possible; give a whole number of at least 0"),
        ({"bottom": 10**7}, "a canvas of 20x10000020 has more than 134217728 pixels; extend less"),
        ({"left": 5, "window": 0}, "window=0 is not possible"),
        ({"left": 5, "window": 21}, "window=21 does not fit the canvas of 25x20; give at most 20"),
        ({"left": 5000, "bottom": 5000, "window": 20}, "takes 254016 windows of 20 px; give a larger window"),
        ({"left": 5, "image_size": (48, 32)}, "image_size=48x32: outpainting draws squares; give one side"),
        ({"left": 5, "prompt": ""}, "the prompt is empty"),
        ({"left": 5, "image": "nowhere.png"}, r"nowhere\.png cannot be read"),
        ({"left": 5, "feather": -1}, "feather=-1 is not possible"),
        ({"left": 5, "num_resamples": 0}, "num_resamples=0 is not possible"),
        ({"left": 5, "num_steps": 0}, "num_steps"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    pipe: UnClip, picture: Image.Image, arguments: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.outpaint(**{"image": picture, "prompt": PROMPT} | arguments, progress=lambda stage, *_: seen.append(stage))
    assert seen == []
