"""The one check of sizes: the presets of published models fit, and each size of theirs that is changed does not."""

import pytest

from unclip.config import Config
from unclip.errors import CheckpointError
from unclip.model import model_preset, model_presets
from unclip.model.checks import check_fit, sizes_of


@pytest.mark.parametrize("name", model_presets())
def test_published_models_fit_and_another_size_of_any_stage_does_not(name: str) -> None:
    parts = dict(model_preset(name).stages)
    check_fit(parts)
    shared = [size.what for part in parts.values() for size in sizes_of(part)]
    for stage, part in parts.items():
        for what, number, field in sizes_of(part):
            if shared.count(what) > 1 and "." not in field:
                with pytest.raises(CheckpointError, match=f"{stage} {2 * number}"):
                    check_fit(parts | {stage: enlarged(part, field, 2 * number)})


def enlarged(part: Config, field: str, number: int) -> Config:
    """The part with one setting changed, whatever else would have to change with it."""
    return part.model_copy(update={field: number})


def test_an_upsampler_enlarges_what_the_stage_before_makes() -> None:
    parts = dict(model_preset("dalle2-paper").stages)
    middle = enlarged(parts["upsampler_256"], "image_size", 128)
    with pytest.raises(CheckpointError, match="upsampler_128 makes 128 px, but upsampler_1024 enlarges 256 px"):
        check_fit(parts | {"upsampler_256": middle})
    with pytest.raises(CheckpointError, match="the decoder makes 32 px, but upsampler_256 enlarges 64 px"):
        check_fit(parts | {"decoder": enlarged(parts["decoder"], "image_size", 32)})


def test_latents_and_pictures_have_the_same_channels_in_every_stage() -> None:
    parts = dict(model_preset("kandinsky-2.2").stages)
    with pytest.raises(CheckpointError, match="the number of latent channels: decoder 8, autoencoder 4"):
        check_fit(parts | {"decoder": enlarged(parts["decoder"], "in_channels", 8)})
    parts = dict(model_preset("dalle2-paper").stages)
    with pytest.raises(CheckpointError, match=r"3, or 4 with alpha\): decoder 4, upsampler_256 3, upsampler_1024 3"):
        check_fit(parts | {"decoder": enlarged(parts["decoder"], "in_channels", 4)})
    every = {name: enlarged(parts[name], "in_channels", 4) for name in ("decoder", "upsampler_256", "upsampler_1024")}
    check_fit(parts | every)
