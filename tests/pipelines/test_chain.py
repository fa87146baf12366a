"""Which stages draw a size: squares by name, other shapes through the square nearest in area."""

import re

import pytest
import torch

from unclip.errors import InputError
from unclip.pipelines import Model, UnClip
from unclip.pipelines.job import chain_to


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        (None, [(16, 16), (32, 32)]),
        (16, [(16, 16)]),
        ((32, 32), [(16, 16), (32, 32)]),
        ((48, 32), [(16, 24), (32, 48)]),
        ((24, 16), [(16, 24)]),
        ((16, 32), [(32, 16)]),
        ((128, 32), [(16, 64), (32, 128)]),
        ((36, 32), [(16, 18), (32, 36)]),
    ],
)
def test_the_stages_and_their_sizes(model: Model, wanted: object, sizes: list[tuple[int, int]]) -> None:
    chain = chain_to(model, wanted)  # type: ignore[arg-type]
    assert chain.sizes == sizes
    assert [stage.image_size for stage in chain.upsamplers] == [32][: len(sizes) - 1]
    assert chain.size == sizes[-1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (24, r"image_size=24 is not one that the model 'tiny' draws; use one of: 16, 32"),
        ((35, 32), r"image_size=35x32 has a side that is not divisible by 4, as .*; use 36x32"),
        ((0, 32), r"image_size=\(0, 32\) is no size"),
        (True, "is no size"),
    ],
)
def test_what_the_model_does_not_draw_is_refused(model: Model, wanted: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        chain_to(model, wanted)  # type: ignore[arg-type]


def test_the_shape_that_is_advised_is_drawn(model: Model) -> None:
    """A refusal names the rule: a shape near the side that was asked for, by what its sides are divisible."""
    for side in (20, 24, 36, 300):
        with pytest.raises(InputError) as error:
            chain_to(model, side)
        advice = re.search(r"divisible by (\d+), such as (\d+)x(\d+)\.$", str(error.value))
        assert advice is not None
        multiple, width, height = map(int, advice.groups())
        assert chain_to(model, (width, height)).size == (height, width)
        assert width % multiple == height % multiple == 0


def test_a_wide_picture_is_drawn(pipe: UnClip) -> None:
    result = pipe.text_to_image("a red apple", seed=7, image_size=(48, 32))
    assert result.images[0].size == (48, 32)
    assert result.settings["image_size"] == [48, 32]
    tall = pipe.text_to_image("a red apple", seed=7, image_size=(32, 48), output_type="pt").images[0]
    assert tall.shape == (3, 48, 32)
    assert torch.equal(pipe.text_to_image("a red apple", seed=7, image_size=(32, 48), output_type="pt").images[0], tall)


def test_an_unknown_option_is_named(pipe: UnClip) -> None:
    with pytest.raises(InputError, match="there is no option 'sed'; did you mean 'seed'"):
        pipe.text_to_image("a red apple", sed=7)  # type: ignore[call-arg]
