"""Settings per stage, seeds and prompts: what is understood and what is refused."""

from typing import Any

import numpy as np
import pytest

from unclip.errors import ConfigError, InputError
from unclip.model import StageSettings
from unclip.pipelines import check_prompts, image_seeds
from unclip.pipelines.settings import picture_seeds, resolve_settings

DEFAULTS = {
    "prior": StageSettings(num_steps=10, sampler="ddpm", guidance_scale=2.0),
    "decoder": StageSettings(num_steps=20, sampler="dpm++", guidance_scale=4.0),
    "upsampler_256": StageSettings(num_steps=7, sampler="ddim"),
}


def settled(**given: Any) -> dict[str, StageSettings]:
    return resolve_settings(DEFAULTS, **given)


def test_nothing_given_is_the_default() -> None:
    assert settled() == DEFAULTS


def test_one_value_is_for_all_stages() -> None:
    settings = settled(num_steps=3, sampler="heun")
    assert {stage: (value.num_steps, value.sampler) for stage, value in settings.items()} == {
        "prior": (3, "heun"),
        "decoder": (3, "heun"),
        "upsampler_256": (3, "heun"),
    }


def test_a_mapping_changes_only_what_it_names() -> None:
    settings = settled(num_steps={"decoder": 3}, sampler={"prior": "ddim"}, guidance_scale={"prior": 1.5})
    assert settings == {
        "prior": DEFAULTS["prior"].replace(sampler="ddim", guidance_scale=1.5),
        "decoder": DEFAULTS["decoder"].replace(num_steps=3),
        "upsampler_256": DEFAULTS["upsampler_256"],
    }


def test_guidance_never_reaches_an_upsampler() -> None:
    scales = {stage: value.guidance_scale for stage, value in settled(guidance_scale=6.0).items()}
    assert scales == {"prior": 6.0, "decoder": 6.0, "upsampler_256": 1.0}
    with pytest.raises(InputError, match=r"guidance_scale: there is no stage 'upsampler_256'.*: decoder, prior"):
        settled(guidance_scale={"upsampler_256": 2.0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_steps": 0}, "num_steps of prior=0 is not possible"),
        ({"num_steps": {"decoder": -1}}, "num_steps of decoder=-1 is not possible"),
        ({"num_steps": True}, "num_steps of prior=True is not possible"),
        ({"num_steps": {"decodr": 5}}, "no stage 'decodr'.* did you mean 'decoder'"),
        ({"guidance_scale": float("nan")}, "guidance_scale of prior=nan is not possible"),
        ({"guidance_scale": {"decoder": float("inf")}}, "guidance_scale of decoder=inf is not possible"),
        ({"guidance_scale": -0.5}, "guidance_scale of prior=-0.5 is not possible"),
        ({"sampler": "dpmm++"}, r"'dpmm\+\+'.*did you mean 'dpm\+\+'"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settled(**given)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"guidance_scale": float("nan")}, {"guidance_scale": -1.0}])
def test_a_model_cannot_have_such_defaults(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DEFAULTS["prior"].replace(**wrong)


def test_seeds_count_up() -> None:
    assert image_seeds(7, 3) == [7, 8, 9]
    assert image_seeds(2**63 - 1, 1) == [2**63 - 1]


def test_a_missing_seed_is_drawn_anew() -> None:
    first, second = image_seeds(None, 2), image_seeds(None, 2)
    assert first[1] == first[0] + 1
    assert 0 <= first[0] < 2**32
    assert first != second  # Fails once in four thousand million runs.


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (2**63, 1), (True, 1)])
def test_impossible_seeds_are_refused(seed: Any, count: int) -> None:
    with pytest.raises(InputError, match=r"seed=.* cannot be used"):
        image_seeds(seed, count)


def test_every_picture_may_have_a_seed_of_its_own() -> None:
    assert picture_seeds(7, 2, 3) == [7, 8, 9, 7, 8, 9]
    assert picture_seeds((4, 0, 4, 1), 2, 2) == [4, 0, 4, 1]
    first, second, *others = picture_seeds(None, 2, 2)
    assert [first + 1, first, second] == [second, *others]
    with pytest.raises(InputError, match=r"seed has 3 numbers for 4 pictures; give one for each"):
        picture_seeds([1, 2, 3], 2, 2)
    with pytest.raises(InputError, match=r"seed=-1 cannot be used"):
        picture_seeds([1, -1], 1, 2)


@pytest.mark.parametrize("count", [0, -3])
def test_impossible_numbers_of_images_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"num_images={count} is not possible"):
        image_seeds(7, count)


def test_prompts() -> None:
    assert check_prompts("a cat") == ["a cat"]
    assert check_prompts(("a cat", "a dog")) == ["a cat", "a dog"]
    for prompts, message in [("", "the prompt is empty"), (["a", " \n"], "prompt 1 is empty"), ([], "no prompt")]:
        with pytest.raises(InputError, match=message):
            check_prompts(prompts)


def test_whole_numbers_of_other_kinds_are_seeds() -> None:
    assert image_seeds(np.int64(7), 2) == [7, 8]
    assert picture_seeds(np.uint8(3), 1, 1) == [3]
