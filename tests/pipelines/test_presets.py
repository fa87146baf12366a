"""Presets: settings that come with a model under a name."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unclip import UnClip
from unclip.config import load_config
from unclip.errors import ConfigError, InputError
from unclip.model import Defaults
from unclip.testing import tiny_pipeline

FAST = {"prior": {"num_steps": 1, "sampler": "ddim"}, "decoder": {"num_steps": 2}}


@pytest.fixture(scope="module")
def pipe() -> UnClip:
    return dataclasses.replace(tiny_pipeline(), presets={"fast": FAST})


def drawn(pipe: UnClip, **options: Any) -> tuple[dict[str, Any], np.ndarray]:
    result = pipe.text_to_image("a cat", seed=3, output_type="np", **options)
    return result.settings, result.images[0]


def test_a_preset_is_its_settings(pipe: UnClip) -> None:
    settings, picture = drawn(pipe, preset="fast")
    assert (settings["prior"]["num_steps"], settings["prior"]["sampler"]) == (1, "ddim")
    assert settings["decoder"]["num_steps"] == 2
    assert settings["upsampler_32"] == drawn(pipe)[0]["upsampler_32"]
    _, same = drawn(pipe, num_steps={"prior": 1, "decoder": 2}, sampler={"prior": "ddim"})
    assert np.array_equal(picture, same)
    assert not np.array_equal(picture, drawn(pipe)[1])


def test_what_is_set_beside_it_has_its_own_value(pipe: UnClip) -> None:
    settings, _ = drawn(pipe, preset="fast", num_steps={"decoder": 3})
    assert (settings["prior"]["num_steps"], settings["decoder"]["num_steps"]) == (1, 3)


def test_presets_are_saved_with_the_model_and_dropped_with_its_stages(pipe: UnClip, tmp_path: Path) -> None:
    pipe.save(tmp_path / "model")
    assert UnClip.load(tmp_path / "model").presets == {"fast": FAST}
    assert pipe.replace(decoder=tiny_pipeline(seed=1)).presets == {}
    assert pipe.replace().presets == {"fast": FAST}


def test_an_unknown_preset_names_the_others(pipe: UnClip) -> None:
    with pytest.raises(InputError, match=r"has no preset 'fats'; did you mean 'fast'\?"):
        drawn(pipe, preset="fats")
    with pytest.raises(InputError, match="it has none; leave preset out"):
        drawn(tiny_pipeline(), preset="fast")


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"decodr": {"num_steps": 2}}, "preset fast sets decodr, which has no settings"),
        ({"decoder": {"num_steps": 0}}, "num_steps"),
        ({"decoder": {"steps": 2}}, "steps"),
    ],
)
def test_a_preset_of_other_stages_or_settings_is_refused(preset: dict[str, dict[str, int]], message: str) -> None:
    stages = {"decoder": {"num_steps": 4, "sampler": "ddim"}}
    with pytest.raises(ConfigError, match=message):
        load_config(Defaults, {"stages": stages, "presets": {"fast": preset}})
