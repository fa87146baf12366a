"""The prior as a stage: text features to image embeddings. Knows CLIP's features and a sampler; not text or pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.diffusion import Denoiser, DiscreteSchedule, SamplerStep, bind, clip_x0, guide
from unclip.model.settings import EMBEDDING_BOUND, StageSettings
from unclip.pipelines.conditioning import AnyPrior, Conditioning, prior_conditioning, with_own_x0
from unclip.pipelines.sampling import describe_stage, run_to_end, sample_dtype, sample_steps, trained_schedule
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings


# Best of n, unCLIP section 2.2: the candidate with the greatest dot product with z_t.
def best_candidate(
    candidates: Float[Tensor, "batch candidates dim"], text_embedding: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """The image embedding of each row that points most along its text embedding (dot product of unit vectors)."""
    points, text = F.normalize(candidates, dim=-1), F.normalize(text_embedding, dim=-1)
    # A sum, not a product of matrices, which a host process may have narrowed to bfloat16.
    scores = (points * text[:, None]).sum(dim=-1)
    return candidates[torch.arange(len(candidates), device=candidates.device), scores.argmax(dim=1)]


@dataclass(frozen=True, eq=False, repr=False)
class PriorStage:
    """A prior network and how it is sampled unless a caller says otherwise."""

    network: AnyPrior
    defaults: StageSettings

    def __repr__(self) -> str:
        return f"<PriorStage: {describe_stage(self.network, self.defaults)}>"

    @property
    def schedule(self) -> DiscreteSchedule:
        """The noise schedule that the network was trained on."""
        return self.schedule_of(self.defaults)

    def schedule_of(self, settings: StageSettings) -> DiscreteSchedule:
        """The schedule in the precision that `settings` ask for."""
        config = self.network.config
        return trained_schedule(config.schedule, config.num_timesteps, settings.schedule_dtype)

    def denoiser(
        self, text: TextFeatures, null: TextFeatures, settings: StageSettings, num_candidates: int = 1
    ) -> Denoiser:
        """Denoiser of standardised image embeddings for `text`, guided away from `null` (features of the empty prompt).

        It takes `num_candidates` neighbouring rows for each row of `text`, and is for one sampling: a self-conditioned
        network is shown its last x0.
        """
        rows, kind = len(text.embedding) * num_candidates, self.network.config.prediction_type
        schedule = self.schedule_of(settings)
        told = prior_conditioning(self.network, text, null, rows)

        def denoiser_of(own: Conditioning) -> Denoiser:
            conditional, unconditional = (bind(self.network, schedule, kind, {**given, **own}) for given in told)
            guided = guide(conditional, unconditional, settings.guidance_scale, settings.guidance_interval)
            return clip_x0(guided, settings.x0_bound or EMBEDDING_BOUND)

        return with_own_x0(self.network, schedule, denoiser_of)

    def steps(
        self,
        text: TextFeatures,
        null: TextFeatures,
        noise: NoiseSource,
        settings: StageSettings,
        num_candidates: int = 1,
    ) -> Iterator[SamplerStep]:
        """Sampler steps over standardised embeddings, (batch * num_candidates, dim), from fresh noise.

        The candidates of a row draw from the row's own generator, so no row depends on the others.
        """
        shape, device = (num_candidates, self.network.config.embedding_dim), text.embedding.device

        def draw() -> Tensor:
            return noise(shape, device, sample_dtype(self.network)).flatten(0, 1)

        denoiser = self.denoiser(text, null, settings, num_candidates)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw)

    def finish(self, x_0: Float[Tensor, "rows dim"], text: TextFeatures) -> Embeddings:
        """Image embeddings from the result of `steps`: statistics put back, the best candidate of each row kept."""
        candidates = self.network.unstandardize(x_0).unflatten(0, (len(text.embedding), -1))
        return best_candidate(candidates, text.embedding)

    def sample(
        self,
        text: TextFeatures,
        null: TextFeatures,
        noise: NoiseSource,
        settings: StageSettings | None = None,
        num_candidates: int = 1,
    ) -> Embeddings:
        """Image embeddings (batch, dim) for text features, at CLIP's own scale."""
        return self.finish(run_to_end(self.steps(text, null, noise, settings or self.defaults, num_candidates)), text)
