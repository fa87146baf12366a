"""Stages of other models: they draw as they did at home, wherever their weights are, and must fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unclip.errors import CheckpointError, InputError
from unclip.model import EmbeddingBasis
from unclip.models import Prior, Upsampler
from unclip.pipelines import Model, UnClip
from unclip.testing import tiny_pipeline


def drawn(pipe: UnClip) -> torch.Tensor:
    return pipe.text_to_image("a red apple", seed=7, output_type="pt").images[0]


@pytest.fixture(scope="module")
def other() -> UnClip:
    """Other weights of the same shape."""
    pipe = tiny_pipeline(seed=1)
    basis = EmbeddingBasis.fit(torch.eye(16))
    return replace(pipe, name="other", num_candidates=3, basis=basis)


def test_a_decoder_of_another_model_draws_from_the_prior_of_this_one(pipe: UnClip, other: UnClip) -> None:
    swapped = pipe.replace(decoder=other)
    assert swapped.name == "tiny (decoder of other)"
    assert swapped.decoder.stage is other.decoder.stage
    draft = pipe.draft("a red apple", stop_after="prior", seed=7)
    assert torch.equal(drawn(swapped), swapped.finish(draft, output_type="pt").images[0])
    assert not torch.allclose(drawn(swapped), drawn(pipe), atol=0.1)
    assert pipe.decoder.stage is not other.decoder.stage


def test_all_of_another_model_is_that_model(pipe: UnClip, other: UnClip) -> None:
    swapped = pipe.replace(clip=other, prior=other, decoder=other, upsamplers=other)
    assert torch.equal(drawn(swapped), drawn(other))
    assert swapped.num_candidates == 3
    assert swapped.basis is other.basis is not None
    assert pipe.replace().name == "tiny"


@pytest.mark.parametrize("low", [(True, False), (False, True), (True, True)])
def test_each_stage_is_in_memory_as_it_was_at_home(
    pipe: UnClip, other: UnClip, tiny_folder: Path, tmp_path: Path, low: tuple[bool, bool]
) -> None:
    other.save(tmp_path)
    mine, theirs = (
        UnClip.load(folder, "cpu", torch.float32, low_memory=is_low)
        for folder, is_low in zip((tiny_folder, tmp_path), low, strict=True)
    )
    swapped = mine.replace(decoder=theirs)
    torch.testing.assert_close(drawn(swapped), drawn(pipe.replace(decoder=other)), atol=1e-4, rtol=1e-4)
    networks = [(swapped.prior.network, low[0]), (swapped.decoder.network, low[1])]
    assert [next(network.parameters()).is_meta for network, _ in networks] == [is_low for _, is_low in networks]
    swapped.save(tmp_path / "joined")
    again = UnClip.load(tmp_path / "joined", "cpu", torch.float32)
    assert again.name == swapped.name
    assert torch.equal(again.decoder.network.unet.conv_in.weight, other.decoder.network.unet.conv_in.weight)


def test_another_embedding_is_refused_with_both_numbers(pipe: UnClip, model: Model) -> None:
    prior = Prior(model.need_prior.network.config.replace(embedding_dim=24))
    wider = UnClip(name="wider", encoders={}, stages={"prior": replace(model.need_prior, network=prior)})
    with pytest.raises(CheckpointError, match="disagree on the image embedding: clip 16, prior 24, decoder 16"):
        pipe.replace(prior=wider)
    with pytest.raises(InputError, match="the model 'wider' has no decoder"):
        pipe.replace(decoder=wider)


def test_another_size_is_refused_with_both_numbers(pipe: UnClip, model: Model) -> None:
    stage = model.need_upsampler

    def enlarging(low_res: int, size: int) -> UnClip:
        network = Upsampler(stage.network.config.replace(low_res_size=low_res, image_size=size))
        stages = {"prior": model.need_prior, f"upsampler_{size}": replace(stage, network=network)}
        return UnClip("tiny", model.encoders, stages)

    with pytest.raises(CheckpointError, match="the decoder makes 16 px, but upsampler_32 enlarges 8 px"):
        pipe.replace(upsamplers=enlarging(8, 32))
    with pytest.raises(CheckpointError, match="upsampler_32 makes 32 px, but upsampler_64 enlarges 16 px"):
        replace(model, stages={**model.stages, **enlarging(16, 64).stages})
    larger = replace(pipe, image_size=32)
    assert larger.replace(upsamplers=enlarging(16, 64)).image_size is None


def test_devices_must_agree(pipe: UnClip) -> None:
    away = replace(pipe, name="away", device=torch.device("meta"))
    with pytest.raises(InputError, match="'tiny' is on cpu and 'away', which gives its decoder, on meta"):
        pipe.replace(decoder=away)
