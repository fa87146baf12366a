"""Previews: what the decoder predicts in each step, of the right pictures, without changing any."""

import pytest
from PIL import Image

from unclip.errors import InputError
from unclip.pipelines import UnClip
from unclip.pipelines.inputs import Input
from unclip.pipelines.options import PreviewStep
from unclip.testing import tiny_pipeline


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_previews_lead_to_the_pictures_and_leave_them_as_they_are(latents: bool, batch_size: int) -> None:
    pipe = tiny_pipeline(channels=4, latents=latents)
    steps: list[tuple[PreviewStep, list[Image.Image]]] = []
    options = {"seed": 3, "image_size": 16, "background": "transparent", "batch_size": batch_size}
    result = pipe.text_to_image(
        ["a cat", "a dog", "a house"], preview=lambda step: steps.append((step, step.pictures())), **options
    )
    alone = pipe.text_to_image(["a cat", "a dog", "a house"], **options)
    assert [image.tobytes() for image in result] == [image.tobytes() for image in alone]
    count = 3
    assert [(step.first, step.index) for step, _ in steps] == [
        (first, index) for first in range(0, 3, batch_size) for index in range(count)
    ]
    assert {step.num_steps for step, _ in steps} == {count}
    # The last step ends at what it predicts.
    last = [picture for step, pictures in steps if step.index == count - 1 for picture in pictures]
    assert [(picture.mode, picture.tobytes()) for picture in last] == [("RGBA", image.tobytes()) for image in result]


def test_an_exception_of_a_preview_stops_the_drawing(pipe: UnClip) -> None:
    def stop(step: PreviewStep) -> None:
        raise KeyError(step.index)

    with pytest.raises(KeyError, match="0"):
        pipe.text_to_image("a cat", preview=stop)


def test_a_preview_is_a_function(pipe: UnClip) -> None:
    with pytest.raises(InputError, match="preview='yes' is not possible"):
        pipe.text_to_image("a cat", preview="yes")


def test_a_text_in_an_input_never_names_a_file(pipe: UnClip) -> None:
    texts = pipe.embed([Input(__file__), Input("no such file.png")])
    assert len(texts) == 2
    result = pipe.mix([(Input(__file__), 1.0)], seed=1)
    assert result.prompts == [__file__]


def squares(pictures: list[Image.Image], box: tuple[int, int, int, int]) -> list[bytes]:
    return [picture.convert("RGBA").crop(box).tobytes() for picture in pictures]


@pytest.mark.parametrize(("background", "mode"), [("transparent", "RGBA"), ("gold", "RGB")])
def test_previews_of_painting_show_the_whole_picture(background: str, mode: str) -> None:
    pipe, picture = tiny_pipeline(channels=4), Image.new("RGB", (24, 20), (10, 200, 90))
    mask = Image.new("L", (24, 20))
    mask.paste(255, (2, 2, 10, 10))
    shown: dict[int, list[Image.Image]] = {0: [], 1: []}
    options = {"seed": [1, 2], "num_images": 2, "image_size": 16, "background": background, "feather": 0}

    def show(step: PreviewStep) -> None:
        for place, one in enumerate(step.pictures(), step.first):
            shown[place].append(one)

    result = pipe.inpaint(picture, mask, "a cat", preview=show, **options)
    for place, drawn in enumerate(result):
        assert {(one.mode, one.size) for one in shown[place]} == {(mode, (24, 20))}
        # Its last step ends at what it predicts, in the hole; the rest is the picture in every step.
        assert squares(shown[place][-1:], (2, 2, 10, 10)) == squares([drawn], (2, 2, 10, 10))
        assert set(squares(shown[place], (10, 10, 24, 20))) == set(squares([picture], (10, 10, 24, 20)))


def test_previews_of_extending_show_what_was_painted_before() -> None:
    pipe, picture = tiny_pipeline(channels=3), Image.new("RGB", (16, 16), (10, 200, 90))
    shown: list[list[Image.Image]] = []
    options = {"seed": 1, "image_size": 16, "feather": 0, "window": 16, "left": 8, "right": 8}
    (drawn,) = pipe.outpaint(picture, "a cat", preview=lambda step: shown.append(step.pictures()), **options)
    assert {one.size for (one,) in shown} == {(32, 16)}
    first = next(
        number for number, (one,) in enumerate(shown) if one.getpixel((31, 0)) != shown[0][0].getpixel((31, 0))
    )
    assert 0 < first < len(shown)
    assert shown[-1][0].tobytes() == drawn.tobytes()
    assert all(one.crop((8, 0, 24, 16)).tobytes() == picture.tobytes() for (one,) in shown)
    assert shown[first][0].crop((0, 0, 8, 16)).tobytes() == drawn.crop((0, 0, 8, 16)).tobytes()
