"""A discriminator of patches that trains beside an autoencoder, in the same steps and by the same optimiser."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from unclip.models import Autoencoder, ConvAutoencoder
from unclip.nn import GroupNorm32
from unclip.shapes import Images, Latents

WIDTHS = (64, 128, 256)
"""Channels of the discriminator's grids, each half as fine as the one before."""
SLOPE = 0.2


class JudgedReconstruction(NamedTuple):
    """A `Reconstruction` with both sides' adversarial losses, each for every picture; zeros where nothing is judged."""

    images: Images
    penalty: Float[Tensor, " batch"]
    generator: Float[Tensor, " batch"]
    """What the autoencoder learns from: how real its pictures look, negative where they do."""
    discriminator: Float[Tensor, " batch"]
    """What the discriminator learns from: the hinge loss of real and of reconstructed pictures."""


class JudgedAutoencoder(nn.Module):
    """An autoencoder in training with the discriminator of its pictures, as VQGAN's (Esser et al. 2021).

    Neither side's loss has a gradient for the other side's weights, so that one backward pass trains both.
    """

    def __init__(self, autoencoder: Autoencoder | ConvAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.discriminator = PatchDiscriminator(autoencoder.config.in_channels)

    def forward(
        self, images: Images, noise: Latents | None = None, latent_noise: float = 0.0, is_judged: bool = False
    ) -> JudgedReconstruction:
        """Call the autoencoder, whose arguments these are, and judge its pictures if `is_judged`."""
        made, penalty = self.autoencoder(images, noise, latent_noise)
        parameters = dict(self.discriminator.named_parameters())
        if not is_judged:
            # DDP waits for a gradient of every parameter, be it 0.
            zeros = 0.0 * torch.stack([parameter.sum() for parameter in parameters.values()]).sum().expand(len(images))
            return JudgedReconstruction(made, penalty, torch.zeros_like(zeros), zeros)
        frozen = {name: parameter.detach() for name, parameter in parameters.items()}
        generator = -functional_call(self.discriminator, frozen, (made,))
        real, fake = self.discriminator(images.to(made.dtype)), self.discriminator(made.detach())
        discriminator = 0.5 * (F.relu(1.0 - real) + F.relu(1.0 + fake))
        return JudgedReconstruction(made, penalty, _mean(generator), _mean(discriminator))


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): a score for each patch of 38 x 38 pixels, high where it looks real."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, WIDTHS[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 4, stride=2, padding=1), GroupNorm32(coarse), nn.LeakyReLU(SLOPE))
            for fine, coarse in pairwise(WIDTHS)
        )
        self.conv_out = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, images: Images) -> Float[Tensor, "batch 1 rows columns"]:
        """Score the patches of pictures in [-1, 1] whose sides are 8 pixels at least."""
        h = F.leaky_relu(self.conv_in(images), SLOPE)
        for level in self.levels:
            h = level(h)
        scores: Tensor = self.conv_out(h)
        return scores


def _mean(scores: Tensor) -> Tensor:
    return scores.float().flatten(1).mean(dim=1)
