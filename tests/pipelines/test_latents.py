"""Decoders of latents in a native model: every task draws through the autoencoder, from memory and from files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pictures import picture
from task_calls import EVERY, PROMPT, TASKS
from unclip.errors import InputError
from unclip.evaluate.suites import round_trip, upsampler_consistency
from unclip.images import cover_all, from_pil
from unclip.model import describe_model
from unclip.model.families import build_on_meta, count_step
from unclip.models import (
    Autoencoder,
    Decoder,
    KandinskyDecoder,
    autoencoder_preset,
    kandinsky_decoder_preset,
)
from unclip.pipelines import DecoderStage, UnClip
from unclip.testing import tiny_pipeline


@pytest.fixture(scope="module")
def latents() -> UnClip:
    return tiny_pipeline(channels=4, latents=True)


@pytest.fixture(scope="module")
def folder(latents: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "latents"
    latents.save(path)
    return path


@pytest.mark.parametrize("task", EVERY)
def test_low_memory_draws_the_same(folder: Path, task: str) -> None:
    """Pictures become latents by weights that are in memory only while the decoder runs."""
    held, light = (UnClip.load(folder, "cpu", torch.float32, low_memory=low) for low in (False, True))
    drawn = [TASKS[task](pipe, seed=7, output_type="pt").images for pipe in (held, light)]
    assert all(torch.equal(one, two) for one, two in zip(*drawn, strict=True))
    assert all(parameter.is_meta for network in light.residences for parameter in network.parameters())


@pytest.mark.parametrize("task", ["text_to_image", "image_to_image", "inpaint"])
def test_the_autoencoder_may_be_of_another_kind(pipe: UnClip, latents: UnClip, tmp_path: Path, task: str) -> None:
    movq = Autoencoder(autoencoder_preset("tiny")).eval().requires_grad_(False)
    decoder = replace(latents.need_decoder, autoencoder=movq)
    joined = replace(pipe, stages={**pipe.stages, "decoder": decoder})
    joined.save(tmp_path / "movq")
    read = UnClip.load(tmp_path / "movq", "cpu", torch.float32)
    drawn = [TASKS[task](model, seed=7, image_size=16, output_type="pt").images for model in (joined, read)]
    for one, two in zip(*drawn, strict=True):
        assert one.shape[0] == 3
        # Weights lie elsewhere in memory, so that sums are rounded otherwise; the random networks amplify it.
        torch.testing.assert_close(one, two, atol=5e-3, rtol=0)


def test_sizes_are_those_of_pictures(latents: UnClip, folder: Path) -> None:
    decoder = latents.need_decoder
    assert (decoder.image_size, decoder.size_multiple, decoder.downsampling, decoder.channels) == (16, 4, 2, 4)
    assert latents.image_sizes == [16, 32]
    assert decoder.sample_shape((16, 24)) == (4, 8, 12)
    assert latents.text_to_image(PROMPT, image_size=(48, 32))[0].size == (48, 32)
    with pytest.raises(InputError, match=r"36x32 has a side that is not divisible by 8, .* use 32x32"):
        latents.text_to_image(PROMPT, image_size=(36, 32))
    info = describe_model(folder)
    assert info.image_sizes == (16, 32)
    # A step of the autoencoder is counted for the latents that the decoder draws: 8 x 8.
    autoencoder = next(stage for stage in info.stages if stage.name == "autoencoder")
    network = build_on_meta(decoder.networks["autoencoder"].config)
    assert autoencoder.flops_per_step == count_step(network, (8, 8)) == count_step(network) // 64


def test_pictures_become_latents_and_pictures_again(latents: UnClip) -> None:
    decoder, images = latents.need_decoder, from_pil([picture(0, 16, 16), picture(1, 16, 16)], 4)
    encoded = decoder.encode(images)
    assert encoded.shape == (2, 4, 8, 8)
    assert decoder.finish(encoded).shape == images.shape
    with pytest.raises(InputError, match="3 channels, but this autoencoder takes 4"):
        decoder.encode(images[:, :3])
    # Little noise leaves little to draw: what comes back is what the autoencoder makes of the picture.
    drawn = latents.image_to_image(
        picture(0, 16, 16), strength=0.002, num_steps=1000, image_size=16, output_type="pt", background="transparent"
    )
    torch.testing.assert_close(drawn.images[0], decoder.finish(encoded)[0], atol=0.1, rtol=0)


@pytest.mark.parametrize("x0_bound", [None, 0.5])
@pytest.mark.parametrize("kind", ["pixels", "latents"])
def test_each_stage_has_its_own_bound(pipe: UnClip, latents: UnClip, kind: str, x0_bound: float | None) -> None:
    model = pipe if kind == "pixels" else latents
    decoder = model.need_decoder
    settings = decoder.defaults.replace(x0_bound=x0_bound)
    features = model.embed([PROMPT])
    from unclip.pipelines.tasks.embeddings import decoder_features

    denoiser = decoder.denoiser(features, decoder_features(model, [PROMPT]).condition, settings)
    x_t = 100 * torch.randn(1, *decoder.sample_shape((16, 16)), generator=torch.Generator().manual_seed(0))
    bound = x0_bound or (1.0 if kind == "pixels" else 10.0)
    with torch.no_grad():
        assert denoiser(x_t, torch.tensor(0.5)).x0.abs().max() == bound


def test_a_decoder_brings_its_autoencoder(latents: UnClip) -> None:
    other = tiny_pipeline(seed=9, channels=4)
    joined = other.replace(decoder=latents, prior=latents, clip=latents)
    assert joined.networks["autoencoder"] is latents.networks["autoencoder"]
    (small,) = joined.text_to_image(PROMPT, seed=3, image_size=16)
    (expected,) = latents.text_to_image(PROMPT, seed=3, image_size=16)
    assert np.array_equal(np.asarray(small), np.asarray(expected))


def test_latents_without_an_autoencoder_are_refused(pipe: UnClip) -> None:
    network = Decoder(pipe.need_decoder.config.replace(in_channels=8)).eval().requires_grad_(False)
    kandinsky = KandinskyDecoder(kandinsky_decoder_preset("tiny")).eval().requires_grad_(False)
    for decoder in (network, kandinsky):
        alone = replace(pipe, stages={"decoder": DecoderStage(decoder, pipe.need_decoder.defaults)}, encoders={})
        with pytest.raises(InputError, match="'tiny' draws latents, and nothing in the model makes pictures of them"):
            alone.unconditional()


def test_suites_measure_decoders_of_latents(latents: UnClip) -> None:
    images = [picture(seed) for seed in range(3)]
    figures = round_trip(latents, images, seed=0) | upsampler_consistency(latents, images, seed=0)
    assert {"cosine_mean", "upsampler_32", "upsampler_32_bicubic"} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    # Enlarged and shrunk again, coverage of opaque pictures is exact, so the figure is that of RGB with a share of it.
    small = cover_all(images, (16, 16), 4)
    assert torch.equal(small[:, 3], torch.ones(3, 16, 16))
