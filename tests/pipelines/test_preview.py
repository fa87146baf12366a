"""Previews: what the decoder predicts in each step, of the right pictures, without changing any."""

import pytest
from PIL import Image

from unclip.errors import InputError
from unclip.pipelines import UnClip
from unclip.pipelines.options import PreviewStep
from unclip.pipelines.tasks.embeddings import Input
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
