"""The autoencoder's run, and decoders that learn its latents."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from short_runs import changed, first_batch, small_shards, steps
from unclip.checkpoint import save_module
from unclip.cli.main import run
from unclip.clip import TextImageEncoder
from unclip.data import open_pictures
from unclip.errors import CheckpointError, ConfigError
from unclip.images import from_uint8
from unclip.models import Autoencoder, KandinskyDecoder, autoencoder_preset, kandinsky_decoder_preset
from unclip.models.dalle2_pytorch import Dalle2UNetConfig
from unclip.pipelines import UnClip
from unclip.recipes import get_recipe
from unclip.runtime import forked_random_state, seeded
from unclip.training import TrainConfig, make_task, train
from unclip.training.tasks.autoencoder import colour_psnr, reconstruction_losses
from unclip.training.tasks.latents import encode_pictures, load_autoencoder, open_autoencoder

Recipe = Callable[[str], TrainConfig]
CPU = torch.device("cpu")


def images(seed: int) -> torch.Tensor:
    return torch.rand(3, 4, 16, 16, generator=seeded(seed)) * 2 - 1


def test_the_loss_is_l1_of_pixels_and_of_their_differences_at_three_scales() -> None:
    made, real = images(0), images(1)
    expected = (made - real).abs().mean(dim=(1, 2, 3))
    for factor in (1, 2, 4):
        error = F.avg_pool2d(made - real, factor)
        for difference in (error[:, :, 1:] - error[:, :, :-1], error[..., 1:] - error[..., :-1]):
            expected = expected + 0.7 / 3 * difference.abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(reconstruction_losses(made, real, 0.7), expected)


def test_psnr_is_that_of_clipped_colours() -> None:
    made, real = images(0) * 1.5, images(1)
    error = ((made.clamp(-1, 1) - real)[:, :3] / 2).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(colour_psnr(made, real), -10 * error.log10())


def test_it_learns_sixteen_pictures(tiny_recipe: Recipe) -> None:
    config = changed(
        tiny_recipe("emoji/autoencoder"), image_size=32, batch_size=16, num_images=16 * 120, warmup_images=0,
        learning_rate=3e-3, decay="constant",
    )  # fmt: skip
    losses = steps(config, 120).losses
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_a_run_writes_standardised_latents_of_its_pictures(tiny_recipe: Recipe, autoencoder_folder: Path) -> None:
    config = tiny_recipe("emoji/autoencoder")
    network = load_autoencoder(open_autoencoder(autoencoder_folder), CPU)
    pictures = open_pictures(config.data.folder, [128], channels=4)
    pixels = np.stack([pictures.item(index).pixels[128] for index in range(len(pictures))])
    latents = network.encode(from_uint8(pixels))
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.movedim(1, -1).flatten(0, 2).std(dim=0), torch.ones(8), atol=1e-3, rtol=0)


def test_latents_are_kept_and_read_again(tiny_recipe: Recipe, autoencoder_folder: Path, tmp_path: Path) -> None:
    data = tiny_recipe("emoji/autoencoder").data
    shutil.copytree(data.folder, tmp_path / "shards", ignore=shutil.ignore_patterns(".*"))
    data = data.replace(folder=str(tmp_path / "shards"))
    weights = open_autoencoder(autoencoder_folder)
    network = load_autoencoder(weights, CPU)
    encoded = encode_pictures(data, weights, network, 128)
    (path,) = (tmp_path / "shards").glob(".latents-128-*.npy")
    written = path.stat().st_mtime_ns
    again = encode_pictures(data, weights, network, 128)
    assert path.stat().st_mtime_ns == written
    item = open_pictures(data.folder, [128], channels=4).item(3)
    expected = network.encode(from_uint8(item.pixels[128][None]))
    for found in (encoded, again):
        torch.testing.assert_close(found.latents([3]), expected, atol=2e-3, rtol=2e-3)  # float16 on disk
        assert found.item(3).captions == item.captions


def test_a_decoder_learns_latents_and_its_pictures_are_as_large_as_the_autoencoder_s(tiny_recipe: Recipe) -> None:
    trainer = steps(tiny_recipe("emoji/decoder"), 2).trainer
    preview = trainer.task.preview(trainer.state.network)
    assert preview is not None
    assert preview.size == (2 * 130 - 2, 2 * 130 - 2)  # two previews, each below its original


def test_movq_is_an_autoencoder_too(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Kandinsky's, of three channels, whose latents are not standardised."""
    with forked_random_state(0):
        network = Autoencoder(autoencoder_preset("tiny"))
    save_module(tmp_path / "autoencoder.safetensors", network, network.config, "autoencoder")
    folder = small_shards(tmp_path / "shards", 16, 16)
    config = changed(
        tiny_recipe("emoji/decoder"), folder=str(folder), emoji_split=None, autoencoder=tmp_path, image_size=8,
        in_channels=network.config.latent_channels, attention_resolutions=(),
    )  # fmt: skip
    losses = steps(config, 2).losses
    assert np.isfinite(losses).all()


@pytest.fixture(scope="module")
def kandinsky(tiny_recipe: Recipe) -> TrainConfig:
    config = tiny_recipe("emoji/decoder")
    embedding_dim = config.task.model.embedding_dim
    model = kandinsky_decoder_preset("tiny").replace(image_size=16, in_channels=8, embedding_dim=embedding_dim)
    return config.replace(task=config.task.replace(model=model, image_drop_prob=0.5))


def test_kandinsky_s_decoder_learns_latents(kandinsky: TrainConfig, tmp_path: Path) -> None:
    trainer = steps(changed(kandinsky, validation_share=0.4, num_drawn=3, learning_rate=1e-3), 2).trainer
    preview = trainer.task.preview(trainer.state.network)
    assert preview is not None
    assert preview.size == (2 * 130 - 2, 2 * 130 - 2)
    assert {"held_out_loss", "frechet_clip"} <= trainer.validate().keys()
    config = kandinsky.replace(num_images=16, checkpoint_images=16)
    train(config, tmp_path / "run")
    assert run(["assemble", str(tmp_path / "model"), "--decoder", str(tmp_path / "run")]) == 0
    pipe = UnClip.load(tmp_path / "model", "cpu")
    assert isinstance(pipe.stages["decoder"].network, KandinskyDecoder)
    drawn = pipe.image_variations(Image.new("RGB", (40, 40), "red"), seed=0, num_steps=2, guidance_scale=2.0)
    assert drawn.images[0].size == (128, 128)


def test_kandinsky_s_decoder_reads_an_empty_image_where_the_embedding_is_dropped(kandinsky: TrainConfig) -> None:
    task = make_task(changed(kandinsky, embedding_noise=0.0), CPU)
    batch = first_batch(kandinsky, task)
    present = batch["image_present"]
    assert 0 < present.sum() < len(present)
    embedding = task.conditioning(batch)["image_embedding"]
    null_image = TextImageEncoder.load(kandinsky.task.clip).encode_empty_image()
    assert torch.equal(embedding[present], batch["image_embedding"][present])
    assert torch.equal(embedding[~present], null_image.expand(int((~present).sum()), -1))


def test_what_kandinsky_s_decoder_lacks_is_refused(kandinsky: TrainConfig) -> None:
    for changes, message in (
        ({"autoencoder": None}, r"a KandinskyDecoder draws latents; name an autoencoder"),
        ({"text_dim": 32}, r"task\.model\.text_dim=32: .* a second encoder, .* set task\.model\.text_dim=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_task(changed(kandinsky, **changes), CPU)
    other = Dalle2UNetConfig.model_construct()
    with pytest.raises(ConfigError, match=r"found a Dalle2UNetConfig; pass a DecoderConfig or KandinskyDecoderConfig"):
        kandinsky.task.replace(model=other)


def test_a_decoder_of_other_channels_is_refused(tiny_recipe: Recipe) -> None:
    config = changed(tiny_recipe("emoji/decoder"), in_channels=3)
    with pytest.raises(ConfigError, match=r"task.model.in_channels=3, but the number of latent channels is 8 in"):
        steps(config)


def test_a_folder_without_an_autoencoder_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors"):
        steps(changed(tiny_recipe("emoji/decoder"), autoencoder=tmp_path))


def test_pictures_that_the_levels_do_not_divide_are_refused() -> None:
    task = get_recipe("emoji/autoencoder").task
    with pytest.raises(ConfigError, match=r"image_size=100 is not divisible by 8 .* use 96 or 104"):
        task.replace(image_size=100)


def test_the_run_of_an_autoencoder_resumes_to_the_bit(tiny_recipe: Recipe, tmp_path: Path) -> None:
    config = tiny_recipe("emoji/autoencoder").replace(num_images=32, checkpoint_images=16, preview_images=64)
    train(config, tmp_path / "whole")
    train(config.replace(num_images=16), tmp_path / "halves")
    train(config, tmp_path / "halves")
    whole, halves = (tmp_path / name / "autoencoder.safetensors" for name in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()
