"""Parts that several networks share: a config field, statistics of embeddings, the input of the last x0, codebooks."""

from typing import Annotated, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn import TimeEmbedding
from unclip.runtime import at_least_float32
from unclip.shapes import Embeddings, Images, Sample, Timesteps

# A noise level in [0, 1] is embedded on the scale of time steps, so that the sinusoids resolve it.
_LEVEL_SCALE = 1000.0

# Weight of the encoder's part of the distance to the codebook, as published.
_COMMITMENT = 0.25

# A config of more blocks is a mistake, and its network would be built before anything is compared with it.
Depth: TypeAlias = Annotated[int, Field(ge=1, le=1000)]


class Reconstruction(NamedTuple):
    """Pictures that went through the latents of an autoencoder, and how far these are from simple."""

    images: Images
    """Near [-1, 1], not clipped."""
    penalty: Float[Tensor, " batch"]
    """Mean over the latent numbers: the KL divergence from a standard normal, or VQ-VAE's two squared distances."""


# VQ-VAE (van den Oord et al. 2017), equation 3; the gradient goes straight through.
def straight_through(latents: Images, nearest: Images) -> tuple[Images, Float[Tensor, " batch"]]:
    """Return the nearest codebook vectors with the gradient of `latents`, and each picture's mean squared distances."""
    penalty = (nearest - latents.detach()) ** 2 + _COMMITMENT * (nearest.detach() - latents) ** 2
    return latents + (nearest - latents).detach(), penalty.flatten(1).mean(dim=1)


class Standardized(nn.Module):
    """Base of networks that standardise image embeddings, by the buffers `embedding_mean` and `embedding_std`."""

    embedding_mean: Tensor
    embedding_std: Tensor

    def __init__(self, dim: int, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("embedding_mean", torch.zeros(dim))
        self.register_buffer("embedding_std", torch.full((dim,), std))

    def standardize(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Bring CLIP's image embeddings to mean 0 and standard deviation 1 per dimension, in float32 or better."""
        mean, std = at_least_float32(self.embedding_mean), at_least_float32(self.embedding_std)
        return (at_least_float32(embedding) - mean) / std

    def unstandardize(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Invert `standardize`."""
        mean, std = at_least_float32(self.embedding_mean), at_least_float32(self.embedding_std)
        return at_least_float32(embedding) * std + mean


def embed_level(embedding: TimeEmbedding, level: Float[Tensor, " batch"] | None, timestep: Timesteps) -> Embeddings:
    """Embed how much noise an input holds, in [0, 1]; None: none, for as many samples as there are times."""
    level = torch.zeros_like(timestep) if level is None else level
    embedded: Tensor = embedding(level * _LEVEL_SCALE)
    return embedded


# Analog Bits (arXiv 2208.04202), section 3.2: zeros stand for a prediction that does not exist.
def last_x0(self_conditioning: bool, self_condition: Tensor | None, x_t: Sample) -> Sample | None:
    """Return the last x0, or zeros in the shape of `x_t` where there is none; None if `self_conditioning` is off.

    Raises `InputError` for a last x0 that the network does not read.
    """
    if not self_conditioning and self_condition is not None:
        raise InputError("this network does not read its own predictions (self_conditioning=False); leave them out.")
    if not self_conditioning:
        return None
    return torch.zeros_like(x_t) if self_condition is None else self_condition
