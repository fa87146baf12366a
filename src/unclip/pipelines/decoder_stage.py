"""The decoder as a stage: image embeddings to small pictures. Knows embeddings and a sampler; not text or the prior."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.diffusion import BoundDenoiser, Denoiser, DiscreteSchedule, SamplerStep, bind, clip_x0, guide
from unclip.models import Decoder
from unclip.pipelines.sampling import expand_text, last, sample_steps, trained_schedule, trim_texts
from unclip.pipelines.settings import StageSettings
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings, Images

__all__ = ["DecoderStage"]

# Pixels lie in [-1, 1].
X0_BOUND = 1.0


@dataclass(frozen=True, eq=False)
class DecoderStage:
    """A decoder network and how it is sampled unless a caller says otherwise."""

    network: Decoder
    defaults: StageSettings

    @cached_property
    def schedule(self) -> DiscreteSchedule:
        """The noise schedule that the network was trained on."""
        config = self.network.config
        return trained_schedule(config.schedule, config.num_timesteps, self.defaults)

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.network.config.image_size

    def denoiser(
        self, image_embedding: Embeddings, text: TextFeatures, null: TextFeatures, settings: StageSettings
    ) -> Denoiser:
        """Denoiser of pictures of `image_embedding`, guided away from the null embedding with the empty prompt `null`.

        `text` and `null` are used by networks that read text, and left aside by others.
        """
        text, null = trim_texts(text, null)
        rows = len(image_embedding)
        present = torch.ones(rows, dtype=torch.bool, device=image_embedding.device)
        conditional = self._bind(image_embedding, present, text)
        bound = settings.x0_bound or X0_BOUND
        if settings.guidance_scale != 1.0:
            unconditional = self._bind(image_embedding, ~present, expand_text(null, rows))
            guided = guide(conditional, unconditional, settings.guidance_scale, settings.guidance_interval)
            return clip_x0(guided, bound)
        return clip_x0(conditional, bound)

    def steps(
        self,
        image_embedding: Embeddings,
        text: TextFeatures,
        null: TextFeatures,
        noise: NoiseSource,
        settings: StageSettings,
    ) -> Iterator[SamplerStep]:
        """Sampler steps over pixels from fresh noise; the `x_t` of the last is the picture in [-1, 1]."""
        shape, device = (3, self.image_size, self.image_size), image_embedding.device

        def draw() -> Tensor:
            return noise(shape, device)

        denoiser = self.denoiser(image_embedding, text, null, settings)
        return sample_steps(denoiser, self.schedule, draw(), settings, draw)

    def finish(self, x_0: Images) -> Images:
        """Pictures in [-1, 1] from the result of `steps`."""
        return x_0.clamp(-1.0, 1.0)

    def sample(
        self,
        image_embedding: Embeddings,
        text: TextFeatures,
        null: TextFeatures,
        noise: NoiseSource,
        settings: StageSettings | None = None,
    ) -> Images:
        """Pictures (batch, 3, image_size, image_size) for image embeddings (batch, dim) at CLIP's own scale."""
        return last(self.steps(image_embedding, text, null, noise, settings or self.defaults))

    def _bind(self, image_embedding: Embeddings, present: Tensor, text: TextFeatures) -> BoundDenoiser:
        config = self.network.config
        conditioning = {"image_embedding": image_embedding, "image_present": present}
        if config.text_dim:
            conditioning |= {"text_embedding": text.embedding, "text_hidden": text.hidden, "text_mask": text.mask}
        return bind(self.network, self.schedule, config.prediction_type, conditioning, config.learned_variance)
