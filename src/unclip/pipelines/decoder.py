"""The decoder as a stage: image embeddings to small pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from unclip.diffusion import Denoiser, SamplerStep
from unclip.images import Background, to_pil
from unclip.model.family import Condition, DecoderShape
from unclip.model.settings import LATENT_BOUND, PIXEL_BOUND, StageSettings
from unclip.models import Autoencoder, ConvAutoencoder
from unclip.pipelines.options import Preview, PreviewStep
from unclip.pipelines.stage import FROM_NOISE, Stage, Start, run_to_end, sample_steps
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings, Images, Sample


@dataclass(frozen=True, eq=False, repr=False)
class DecoderStage(Stage):
    """A decoder network and how it is sampled unless a caller says otherwise."""

    name = "decoder"
    autoencoder: Autoencoder | ConvAutoencoder | None = None
    """What turns latents into pictures; None: the network denoises pixels."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        latents = {} if self.autoencoder is None else {"autoencoder": self.autoencoder}
        return {self.name: self.network, **latents}

    @property
    def config(self) -> DecoderShape:
        """Configuration of the network, of whichever family."""
        config: DecoderShape = self.network.config
        return config

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.config.image_size * self.downsampling

    @property
    def channels(self) -> int:
        """Channels of its pictures: 3, or 4 where RGB on white is followed by its coverage."""
        return self.config.in_channels if self.autoencoder is None else self.autoencoder.config.in_channels

    @property
    def draws_pictures(self) -> bool:
        """False for a decoder of latents that has no autoencoder."""
        is_of_latents = self.family.draws_latents or self.config.in_channels not in (3, 4)
        return self.autoencoder is not None or not is_of_latents

    @property
    def downsampling(self) -> int:
        """Pixels of a picture along the side of one latent; 1 where the network denoises pixels."""
        return 1 if self.autoencoder is None else self.autoencoder.config.downsampling

    @property
    def size_multiple(self) -> int:
        """What the sides of its pictures must be divisible by."""
        return self.config.size_multiple * self.downsampling

    @property
    def reads_text(self) -> bool:
        """Whether the network reads text besides the image embedding."""
        return self.config.text_dim > 0

    @property
    def needs_null_image(self) -> bool:
        """Whether guidance leads away from the embedding of an empty image, not from a null that was learned."""
        return self.family.null_is_empty_image

    def sample_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape of one sample that the network denoises, for a picture of (height, width)."""
        height, width = size
        return (self.config.in_channels, height // self.downsampling, width // self.downsampling)

    def from_clip(self, image_embedding: Embeddings) -> Embeddings:
        """Scale CLIP's embedding of a picture as the network reads it: CLIP's own scale, or length 1."""
        return F.normalize(image_embedding, dim=-1) if self.family.unit_embeddings else image_embedding

    def denoiser(self, image_embedding: Embeddings, condition: Condition, settings: StageSettings) -> Denoiser:
        """Make the denoiser of pictures (or latents) of `image_embedding`, guided away from the nulls of `condition`.

        It is for one sampling.
        """
        conditioning = self.family.condition_decoder
        assert conditioning is not None, f"{type(self.network).__name__} is no decoder"
        bound = PIXEL_BOUND if self.autoencoder is None else LATENT_BOUND
        inputs = conditioning(self.network, image_embedding, condition)
        if self.family.reads_noise_level and self.network.config.noise_conditioning:
            level = torch.full((len(image_embedding),), settings.augmentation, device=image_embedding.device)
            inputs = [{**given, "augmentation": level} for given in inputs]
        return self.guided(inputs, settings, bound)

    def steps(
        self,
        image_embedding: Embeddings,
        condition: Condition,
        noise: NoiseSource,
        settings: StageSettings,
        *,
        size: tuple[int, int] | None = None,
        start: Start = FROM_NOISE,
    ) -> Iterator[SamplerStep]:
        """Sample from `start`, step by step; `finish` makes pictures of the `x_t` of the last.

        `size` is the (height, width) of the pictures in pixels, multiples of `size_multiple`; None is `image_size`.
        """
        shape = self.sample_shape(size or (self.image_size, self.image_size))
        draw = partial(self.draw, noise, shape, image_embedding.device)
        denoiser = self.denoiser(image_embedding, condition, settings)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw, start)

    def encode(self, images: Images) -> Sample:
        """Convert pictures in [-1, 1] to what the network denoises: pixels, or latents."""
        return images if self.autoencoder is None else self.autoencoder.encode(images).float()

    def finish(self, x_0: Sample) -> Images:
        """Make pictures in [-1, 1] of the result of `steps`."""
        images = x_0 if self.autoencoder is None else self.autoencoder.decode(x_0).float()
        return images.clamp(-1.0, 1.0)

    def sample(
        self,
        image_embedding: Embeddings,
        condition: Condition,
        noise: NoiseSource,
        settings: StageSettings | None = None,
    ) -> Images:
        """Sample pictures (batch, channels, side, side) in [-1, 1] of embeddings (batch, dim) at CLIP's scale."""
        return self.finish(run_to_end(self.steps(image_embedding, condition, noise, settings or self.defaults)))


def show_steps(
    decoder: DecoderStage, steps: Iterator[SamplerStep], first: int, preview: Preview | None, background: Background
) -> Iterator[SamplerStep]:
    """Pass on the steps of a batch, whose first picture has the place `first`, and show what each predicts."""

    def pictures(x0: Sample) -> list[Image.Image]:
        return to_pil(decoder.finish(x0), background)

    for step in steps:
        if preview is not None:
            preview(PreviewStep(first, step.index, step.num_steps, partial(pictures, step.x0)))
        yield step
