"""The convolutional autoencoder against the formulas that it cites."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from unclip.errors import ConfigError, InputError
from unclip.models import ConvAutoencoder, ConvAutoencoderConfig
from unclip.runtime import forked_random_state, seeded

KL = ConvAutoencoderConfig(in_channels=4, latent_channels=3, widths=(8, 12))
VQ = KL.replace(regularizer="vq", codebook_size=5)


def make(config: ConvAutoencoderConfig) -> ConvAutoencoder:
    with forked_random_state(0):
        return ConvAutoencoder(config).eval()


def pictures(height: int = 32, width: int = 16) -> torch.Tensor:
    return torch.rand(2, 4, height, width, generator=seeded(1)) * 2 - 1


def encoded(network: ConvAutoencoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_variance = network.encoder(images).chunk(2, dim=1)
    return mean, log_variance


def test_a_latent_pixel_stands_for_a_block_of_pixels() -> None:
    network = make(KL)
    assert KL.downsampling == 8
    latents = network.encode(pictures())
    assert latents.shape == (2, 3, 4, 2)
    assert network.decode(latents).shape == (2, 4, 32, 16)


def test_the_penalty_is_the_divergence_from_a_standard_normal() -> None:
    network, images = make(KL), pictures()
    mean, log_variance = encoded(network, images)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros(()), torch.ones(()))).mean(dim=(1, 2, 3))
    torch.testing.assert_close(network(images).penalty, expected)


def test_noise_has_the_posterior_s_variance_and_that_of_the_latent_noise() -> None:
    """Through the decoder's own input, since convolution of the first layer is linear."""
    network, images = make(KL), pictures()
    mean, log_variance = encoded(network, images)
    read: list[torch.Tensor] = []
    network.decoder.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    noise = torch.ones_like(mean)
    network(images, noise, 0.5)
    added = (0.5 * mean.flatten(1).std(dim=1)).view(2, 1, 1, 1) ** 2
    torch.testing.assert_close(read[0], mean + (log_variance.exp() + added).sqrt())


def test_statistics_standardise_each_channel() -> None:
    network, images = make(KL), pictures(64, 64)
    reconstructed = network(images).images
    network.measure([images[:1], images[1:]])
    latents = network.encode(images)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.movedim(1, -1).flatten(0, 2).std(dim=0), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(network.decode(latents), reconstructed, atol=1e-5, rtol=1e-5)


def test_a_codebook_replaces_each_latent_by_the_nearest_vector_and_lets_gradients_through() -> None:
    network, images = make(VQ), pictures()
    latents = network.encoder(images).detach().requires_grad_()
    nearest, penalty = network._quantize(latents)
    pixels = latents.detach().movedim(1, -1).flatten(0, 2)
    distances = (pixels[:, None] - network.codebook[None]).square().sum(dim=2)
    torch.testing.assert_close(
        nearest.movedim(1, -1).flatten(0, 2), network.codebook[distances.argmin(dim=1)], atol=1e-6, rtol=0
    )
    expected = 1.25 * distances.amin(dim=1).view(2, -1).sum(dim=1) / (3 * 4 * 2)
    torch.testing.assert_close(penalty, expected)
    (gradient,) = torch.autograd.grad(nearest.sum(), latents)
    torch.testing.assert_close(gradient, torch.ones_like(latents))


def test_codes_decode_to_what_training_sees() -> None:
    network, images = make(VQ), pictures()
    network.measure([images])
    torch.testing.assert_close(network.decode(network.encode(images)), network(images).images, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda network: network.encode(torch.zeros(1, 3, 16, 16)), "images have 3 channels, .* takes 4"),
        (lambda network: network.encode(torch.zeros(1, 4, 16, 20)), "width=20 is not divisible by 8 .* use 16 or 24"),
        (lambda network: network.decode(torch.zeros(1, 4, 2, 2)), "latents have 4 channels, .* takes 3"),
    ],
)
def test_what_does_not_fit_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(make(KL))  # type: ignore[operator]


@pytest.mark.parametrize("fields", [{"codebook_size": 8}, {"regularizer": "vq"}])
def test_a_codebook_belongs_to_vq_alone(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="codebook"):
        KL.replace(**fields)
