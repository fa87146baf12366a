"""The decoder as a stage: image embeddings to small pictures. Knows embeddings and a sampler; not text or the prior."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from unclip.diffusion import Denoiser, DiscreteSchedule, SamplerStep, bind, clip_x0, guide
from unclip.model.settings import PIXEL_BOUND, StageSettings
from unclip.models import Autoencoder, KandinskyDecoder
from unclip.models.dalle2_pytorch import Dalle2UNet
from unclip.pipelines.conditioning import AnyDecoder, Condition, Conditioning, decoder_conditioning, with_own_x0
from unclip.pipelines.sampling import (
    FROM_NOISE,
    Start,
    describe_stage,
    run_to_end,
    sample_dtype,
    sample_steps,
    trained_schedule,
)
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings, Images, Sample


@dataclass(frozen=True, eq=False, repr=False)
class DecoderStage:
    """A decoder network and how it is sampled unless a caller says otherwise."""

    network: AnyDecoder
    defaults: StageSettings
    autoencoder: Autoencoder | None = None
    """What turns its latents into pictures, where it does not draw pixels itself."""

    def __repr__(self) -> str:
        return f"<DecoderStage: {describe_stage(self.network, self.defaults)}>"

    @property
    def schedule(self) -> DiscreteSchedule:
        """The noise schedule that the network was trained on."""
        return self.schedule_of(self.defaults)

    def schedule_of(self, settings: StageSettings) -> DiscreteSchedule:
        """The schedule in the precision that `settings` ask for."""
        config = self.network.config
        return trained_schedule(config.schedule, config.num_timesteps, settings.schedule_dtype)

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.network.config.image_size * self.downsampling

    @property
    def downsampling(self) -> int:
        """Pixels along the side of what the network sees as one."""
        return 1 if self.autoencoder is None else self.autoencoder.config.downsampling

    @property
    def size_multiple(self) -> int:
        """What the sides of its pictures must be divisible by."""
        return self.network.config.size_multiple * self.downsampling

    def sample_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape of one sample that the network denoises, for a picture of (height, width)."""
        height, width = size
        return (self.network.config.in_channels, height // self.downsampling, width // self.downsampling)

    @property
    def needs_null_image(self) -> bool:
        """Whether guidance leads away from the embedding of an empty image, not from a null that was learned."""
        return isinstance(self.network, KandinskyDecoder)

    def from_clip(self, image_embedding: Embeddings) -> Embeddings:
        """What CLIP says of a picture at the scale that the network reads: DALLE2-pytorch trains on unit vectors."""
        return F.normalize(image_embedding, dim=-1) if isinstance(self.network, Dalle2UNet) else image_embedding

    def denoiser(self, image_embedding: Embeddings, condition: Condition, settings: StageSettings) -> Denoiser:
        """Denoiser of pictures (or latents) of `image_embedding`, guided away from the nulls of `condition`.

        It is for one sampling: a self-conditioned network is shown its last x0.
        """
        config, schedule = self.network.config, self.schedule_of(settings)
        told = decoder_conditioning(self.network, image_embedding, condition)

        def denoiser_of(own: Conditioning) -> Denoiser:
            conditional, unconditional = (
                bind(self.network, schedule, config.prediction_type, {**given, **own}, config.learned_variance)
                for given in told
            )
            guided = guide(conditional, unconditional, settings.guidance_scale, settings.guidance_interval)
            return clip_x0(guided, settings.x0_bound or PIXEL_BOUND)

        return with_own_x0(self.network, schedule, denoiser_of)

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
        """Sampler steps from what is `start`; `finish` makes pictures of the `x_t` of the last.

        `size` is the (height, width) of the pictures in pixels, multiples of `size_multiple`; None is `image_size`.
        """
        shape, device = self.sample_shape(size or (self.image_size, self.image_size)), image_embedding.device

        def draw() -> Tensor:
            return noise(shape, device, sample_dtype(self.network))

        denoiser = self.denoiser(image_embedding, condition, settings)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw, start)

    def encode(self, images: Images) -> Sample:
        """Pictures in [-1, 1] in the numbers that the network denoises: themselves, or their latents."""
        return images if self.autoencoder is None else self.autoencoder.encode(images).float()

    def finish(self, x_0: Sample) -> Images:
        """Pictures in [-1, 1] from the result of `steps`."""
        images = x_0 if self.autoencoder is None else self.autoencoder.decode(x_0).float()
        return images.clamp(-1.0, 1.0)

    def sample(
        self,
        image_embedding: Embeddings,
        condition: Condition,
        noise: NoiseSource,
        settings: StageSettings | None = None,
    ) -> Images:
        """Pictures (batch, 3, image_size, image_size) in [-1, 1] for image embeddings (batch, dim) at CLIP's scale."""
        return self.finish(run_to_end(self.steps(image_embedding, condition, noise, settings or self.defaults)))
