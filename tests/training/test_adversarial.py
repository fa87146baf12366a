"""The autoencoder's further losses: a frozen CLIP's features, and a discriminator in the same steps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from short_runs import ALONE, changed, first_batch, loss, steps
from unclip.clip import TextImageEncoder
from unclip.errors import ConfigError
from unclip.images import from_uint8
from unclip.models import Autoencoder, ConvAutoencoder, autoencoder_preset
from unclip.runtime import seeded
from unclip.training import Batch, TrainConfig, make_task, train
from unclip.training.tasks.autoencoder import feature_distances
from unclip.training.tasks.latents import load_autoencoder, open_autoencoder

Recipe = Callable[[str], TrainConfig]


@pytest.fixture(scope="module")
def plain(tiny_recipe: Recipe) -> TrainConfig:
    config = tiny_recipe("emoji/autoencoder")
    clip = tiny_recipe("emoji/decoder").task.clip
    config = changed(config, image_size=32, clip=clip, warmup_images=0, weight_decay=0.0, decay="constant")
    return config.replace(batch_size=8, trackers=())


@pytest.fixture(scope="module")
def judged(plain: TrainConfig) -> TrainConfig:
    return changed(plain, adversarial_weight=0.3, adversarial_images=16)


def discriminator_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in weights.items() if name.startswith("discriminator.")}


def test_one_backward_pass_gives_each_side_the_gradient_of_its_own_loss(judged: TrainConfig) -> None:
    task = make_task(changed(judged, adversarial_images=0), ALONE.device)
    network, batch = task.build(), first_batch(judged, task)
    assert batch["is_judged"].all()
    rows = task.forward(network, batch)
    images = from_uint8(batch["pixels"])
    made = network.autoencoder(images, batch["noise"], task.task.latent_noise).images
    generator = -network.discriminator(made).mean()
    hinges = F.relu(1 - network.discriminator(images)).mean() + F.relu(1 + network.discriminator(made.detach())).mean()
    torch.testing.assert_close(rows["generator"].mean(), generator.detach())
    torch.testing.assert_close(rows["discriminator"].mean(), 0.5 * hinges.detach())
    without = make_task(changed(judged, adversarial_weight=0.0), ALONE.device)
    plain_loss = loss(without, network.autoencoder, batch).loss
    sides = [list(part.parameters()) for part in (network.autoencoder, network.discriminator)]
    expected = [
        *torch.autograd.grad(plain_loss + 0.3 * generator, sides[0]),
        *torch.autograd.grad(0.3 * 0.5 * hinges, sides[1]),
    ]
    rows["loss"].mean().backward()
    for parameter, gradient in zip([*sides[0], *sides[1]], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-7, rtol=1e-4)


def test_the_discriminator_waits_and_the_autoencoder_is_the_same_until_then(
    plain: TrainConfig, judged: TrainConfig
) -> None:
    before, start = steps(judged, 2), make_task(judged, ALONE.device).build()
    expected = discriminator_of(dict(start.named_parameters()))
    assert {name: value.tolist() for name, value in discriminator_of(before.weights).items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    assert before.losses == pytest.approx(steps(plain, 2).losses, rel=1e-6)
    report = before.trainer.step()
    assert report.metrics["discriminator"] == pytest.approx(1.0, abs=0.5)  # it cannot tell them apart yet
    moved = discriminator_of(before.weights)
    assert all((moved[name] - value).abs().max() > 0 for name, value in expected.items() if value.ndim > 1)


def test_held_out_losses_are_without_the_discriminator(plain: TrainConfig, judged: TrainConfig) -> None:
    trainers = [steps(changed(config, validation_share=0.4), 0).trainer for config in (plain, judged)]
    figures, expected = (trainer.validate() for trainer in reversed(trainers))
    assert figures == pytest.approx(expected, rel=1e-6)


def test_a_discriminator_learns_to_tell_pictures_apart(judged: TrainConfig) -> None:
    """Those of an untrained autoencoder are easy."""
    config = changed(judged, adversarial_images=0, adversarial_weight=0.01, learning_rate=1e-3)
    figures = [report.metrics["discriminator"] for report in steps(config, 8).reports]
    assert figures[0] == pytest.approx(1.0, abs=0.1)
    assert figures[-1] < 0.2


def test_parts_of_a_batch_add_up(judged: TrainConfig) -> None:
    config = changed(judged, feature_weight=0.5)
    whole, parts = steps(config, 4), steps(changed(config, micro_batch_size=4), 4)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    for name in ("psnr", "features", "generator", "discriminator"):
        figures = [[report.metrics[name] for report in run.reports] for run in (whole, parts)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-5)


def test_a_judged_run_resumes_to_the_bit_and_exports_no_discriminator(judged: TrainConfig, tmp_path: Path) -> None:
    config = judged.replace(num_images=48, checkpoint_images=24, preview_images=100)
    train(config, tmp_path / "whole")
    train(config.replace(num_images=24), tmp_path / "halves")
    train(config, tmp_path / "halves")
    whole, halves = (tmp_path / name / "autoencoder.safetensors" for name in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()
    network = load_autoencoder(open_autoencoder(tmp_path / "whole"), ALONE.device)
    assert isinstance(network, ConvAutoencoder)
    images = torch.rand(1, 4, 32, 32, generator=seeded(0)) * 2 - 1
    assert network.decode(network.encode(images)).shape == images.shape


def test_features_are_compared_by_the_cosine_of_the_frozen_clip(plain: TrainConfig) -> None:
    task = make_task(changed(plain, feature_weight=1.0), ALONE.device)
    network, batch = task.build(), first_batch(plain, task)
    rows = task.forward(network, batch)
    images = from_uint8(batch["pixels"])
    encoder = TextImageEncoder.load(plain.task.clip)
    made = network(images, batch["noise"], task.task.latent_noise).images
    made, real = (F.normalize(encoder.encode_image(pictures[:, :3]), dim=1) for pictures in (made, images))
    torch.testing.assert_close(rows["features"], 1 - (made * real).sum(dim=1), atol=1e-5, rtol=1e-4)
    rows["loss"].mean().backward()
    assert all(parameter.grad is None for parameter in task.encoder.clip.parameters())
    leaf = images.clone().requires_grad_()
    feature_distances(task.encoder, leaf, images.flip(0)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad[:, :3].abs().max() > 0
    assert leaf.grad[:, 3].abs().max() == 0  # CLIP sees white ground


def test_features_without_a_clip_are_refused(plain: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"feature_weight=0.5 needs a CLIP .* task\.feature_weight=0"):
        make_task(changed(plain, feature_weight=0.5, clip=None), ALONE.device)


@pytest.fixture(scope="module")
def movq(plain: TrainConfig) -> TrainConfig:
    return plain.replace(task=plain.task.replace(model=autoencoder_preset("tiny"), regularizer_weight=1.0))


def test_gradients_go_straight_through_movq_s_codebook(movq: TrainConfig) -> None:
    task = make_task(changed(movq, latent_noise=0.0), ALONE.device)
    network, batch = task.build(), first_batch(movq, task)
    assert isinstance(network, Autoencoder)
    images = from_uint8(batch["pixels"])
    made, penalty = network(images, batch["noise"], 0.0)
    torch.testing.assert_close(made, network.decode(network.encode(images), quantize=True), atol=1e-5, rtol=1e-4)
    latents = network.encode(images)
    distance = (latents - network.quantize(latents)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(penalty, 1.25 * distance)
    loss(task, network, batch).loss.backward()
    assert network.codebook.grad.abs().max() > 0
    assert network.encoder.conv_in.weight.grad.abs().max() > 0
    noisy = network(images, batch["noise"], 1.0).images
    assert (noisy - made).abs().mean() > 1e-3


def test_movq_learns_sixteen_pictures(movq: TrainConfig) -> None:
    psnr = [report.metrics["psnr"] for report in steps(changed(movq, learning_rate=2e-3), 30).reports]
    assert np.mean(psnr[-5:]) > np.mean(psnr[:5]) + 1.0


def test_a_judged_run_starts_from_an_autoencoder(judged: TrainConfig, autoencoder_folder: Path) -> None:
    config = judged.replace(init=autoencoder_folder, seed=3)
    start, weights = steps(config, 0).trainer.state.network, open_autoencoder(autoencoder_folder).tensors
    assert start.autoencoder.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name].read()) for name, tensor in start.autoencoder.state_dict().items())


def test_movq_is_trained_on(movq: TrainConfig, tmp_path: Path) -> None:
    train(movq.replace(num_images=16), tmp_path / "run")
    network = load_autoencoder(open_autoencoder(tmp_path / "run"), ALONE.device)
    assert isinstance(network, Autoencoder)
    assert network.config == autoencoder_preset("tiny")
    config = movq.replace(init=tmp_path / "run", seed=3)
    start, weights = steps(config, 0).trainer.state.network, open_autoencoder(tmp_path / "run").tensors
    assert all(torch.equal(tensor, weights[name].read()) for name, tensor in start.state_dict().items())


def test_movq_may_be_judged_too(movq: TrainConfig) -> None:
    config = changed(movq, adversarial_weight=0.1)
    losses = steps(config, 3)
    assert np.isfinite(losses.losses).all()
    assert losses.reports[0].metrics["discriminator"] > 0


def test_a_batch_that_nobody_judges_costs_nothing(judged: TrainConfig) -> None:
    task = make_task(judged, ALONE.device)
    network, batch = task.build(), first_batch(judged, task)
    rows = task.forward(network, Batch(batch.tensors | {"is_judged": torch.zeros(len(batch), dtype=torch.bool)}))
    assert not rows["generator"].any()
    assert not rows["discriminator"].any()
