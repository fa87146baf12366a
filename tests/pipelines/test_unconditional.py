"""Drawing of nothing: the decoder's null in the place of all conditions, for every kind of decoder, without CLIP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.diffusion import bind, clip_x0, get_sampler, time_grid
from unclip.errors import InputError
from unclip.model import StageSettings, describe_model
from unclip.models import Autoencoder, Decoder, KandinskyDecoder, autoencoder_preset, kandinsky_decoder_preset
from unclip.models.dalle2_pytorch import Dalle2UNet, Dalle2UNetConfig
from unclip.pipelines import DecoderStage, Model, UnClip, run_to_end
from unclip.runtime import NoiseSource, forked_random_state
from unclip.testing.tiny import DECODER

SETTINGS = StageSettings(num_steps=3, sampler="ddim", guidance_scale=3.0)


def filled(build: Callable[[], nn.Module]) -> Any:
    """A network of random weights, its nulls too."""
    with forked_random_state(3):
        network = build()
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def alone(network: Any, autoencoder: Autoencoder | None = None, **encoders: Any) -> UnClip:
    """A model of a decoder and nothing else but `encoders`."""
    return UnClip("alone", encoders, {"decoder": DecoderStage(network, SETTINGS, autoencoder)})


@pytest.fixture(scope="module")
def bare() -> UnClip:
    """A decoder without text, as `image_drop_prob=1` trains it."""
    return alone(filled(lambda: Decoder(DECODER.replace(text_dim=0))))


def drawn(pipe: UnClip, num_images: int = 1, **options: Any) -> Tensor:
    return torch.stack(pipe.unconditional(num_images, **{"seed": 7, "output_type": "pt", **options}).images)


def test_the_null_stands_for_the_embedding(bare: UnClip) -> None:
    """By hand: the network told that no embedding is present, sampled without guidance."""
    network, schedule = bare.decoder.network, bare.need_decoder.schedule
    for seed, picture in zip((7, 8), drawn(bare, 2), strict=True):
        absent = {
            "image_embedding": torch.full((1, DECODER.embedding_dim), 5.0),
            "image_present": torch.tensor([False]),
        }
        config = network.config
        denoiser = clip_x0(bind(network, schedule, config.prediction_type, absent, config.learned_variance), 1.0)
        start = NoiseSource.from_seeds([seed])((3, 16, 16))
        expected = run_to_end(get_sampler("ddim").sample(denoiser, start, time_grid(schedule, 3), None))
        torch.testing.assert_close(picture, expected[0].clamp(-1.0, 1.0))


def test_the_result(bare: UnClip) -> None:
    result = bare.unconditional(2, seed=7)
    assert (result.prompts, result.cut, result.seeds, result.image_embeddings) == (["", ""], ["", ""], [7, 8], None)
    assert result.settings["unconditional"] is True
    assert result.settings["decoder"]["guidance_scale"] == 1.0
    assert [image.size for image in result.images] == [(16, 16)] * 2
    assert torch.equal(drawn(bare, 3)[:2], drawn(bare, 2))
    torch.testing.assert_close(drawn(bare, 3, batch_size=3), drawn(bare, 3), atol=1e-4, rtol=1e-4)


def test_a_decoder_that_reads_text_is_told_the_empty_prompt(pipe: UnClip, model: Model) -> None:
    found = drawn(pipe, image_size=16)
    network, text = model.need_decoder.network, pipe.clip.encode_text([""])
    told = {
        "image_embedding": torch.zeros(1, DECODER.embedding_dim),
        "image_present": torch.tensor([False]),
        "text_embedding": text.embedding,
        "text_hidden": text.hidden,
        "text_mask": text.mask,
    }
    config, schedule, noise = network.config, model.need_decoder.schedule, NoiseSource.from_seeds([7])
    denoiser = clip_x0(bind(network, schedule, config.prediction_type, told, config.learned_variance), 1.0)
    steps = get_sampler("ddpm").sample(denoiser, noise((3, 16, 16)), time_grid(schedule, 3), lambda: noise((3, 16, 16)))
    torch.testing.assert_close(found[0], run_to_end(steps)[0].clamp(-1.0, 1.0), atol=1e-5, rtol=1e-4)


def test_upsamplers_go_on(pipe: UnClip) -> None:
    assert drawn(pipe).shape == (1, 3, 32, 32)
    assert drawn(pipe, image_size=(48, 32)).shape == (1, 3, 32, 48)


def test_other_decoders_draw_of_nothing_too(model: Model) -> None:
    unread = filled(lambda: Dalle2UNet(dalle2(0)))
    read = filled(lambda: Dalle2UNet(dalle2(12)))
    for pipe in (alone(unread), alone(read)):
        one, two = drawn(pipe, 2)
        assert not torch.allclose(one, two, atol=0.01)
    config = kandinsky_decoder_preset("tiny").replace(embedding_dim=model.need_clip.embedding_dim, num_image_tokens=4)
    latent = filled(lambda: KandinskyDecoder(config)), filled(lambda: Autoencoder(autoencoder_preset("tiny")))
    one, two = drawn(alone(*latent, clip=model.need_clip), 2)
    assert not torch.allclose(one, two, atol=0.01)
    with pytest.raises(InputError, match="the model 'alone' has no CLIP"):
        drawn(alone(*latent))


def dalle2(embedding_dim: int) -> Dalle2UNetConfig:
    return Dalle2UNetConfig(
        image_size=16, base_channels=8, channel_mult=(1, 2), num_res_blocks=(1, 1), num_groups=(4, 4),
        self_attention=(False, False), num_heads=2, head_dim=4, context_dim=16, embedding_dim=embedding_dim,
    )  # fmt: skip


def test_a_decoder_that_can_read_no_embedding_says_so_to_other_tasks(model: Model, tmp_path: Path) -> None:
    stage = DecoderStage(filled(lambda: Dalle2UNet(dalle2(0))), SETTINGS)
    unread = replace(model, stages={"decoder": stage})
    with pytest.raises(InputError, match=r"the decoder of 'tiny' reads no image embedding.*use `unconditional`"):
        unread.image_variations(Image.new("RGB", (16, 16), "red"))
    assert drawn(unread).shape == (1, 3, 16, 16)
    unread.save(tmp_path)
    assert [stage.name for stage in describe_model(tmp_path).stages] == ["clip", "decoder"]


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_folder_with_a_decoder_alone_draws(bare: UnClip, tmp_path: Path, low_memory: bool) -> None:
    bare.save(tmp_path / "alone")
    again = UnClip.load(tmp_path / "alone", "cpu", torch.float32, low_memory=low_memory)
    torch.testing.assert_close(drawn(again), drawn(bare), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 2.0}, "guidance_scale of decoder=2 has no condition to lead to; leave it out, or give 1"),
        ({"num_images": 0}, "num_images=0"),
        ({"num_candidates": 2}, "there is no option 'num_candidates'"),
        ({"image_size": 99}, "image_size=99 is not one"),
    ],
)
def test_bad_input_is_refused(bare: UnClip, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bare.unconditional(**options)


def test_a_text_needs_more_and_the_refusal_names_the_way(bare: UnClip) -> None:
    with pytest.raises(InputError, match=r"the model 'alone' has no .*unclip generate --unconditional"):
        bare.text_to_image("a cat")
