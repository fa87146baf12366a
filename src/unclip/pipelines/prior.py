"""The prior as a stage: text features to image embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.diffusion import Denoiser, SamplerStep
from unclip.model.settings import EMBEDDING_BOUND, StageSettings
from unclip.models import Prior
from unclip.models.dalle2_pytorch import Dalle2Prior
from unclip.pipelines.stage import Stage, run_to_end, sample_steps
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings


@dataclass(frozen=True, eq=False, repr=False)
class PriorStage(Stage):
    """A prior network and how it is sampled unless a caller says otherwise."""

    network: Prior | Dalle2Prior
    name = "prior"

    def denoiser(
        self, text: TextFeatures, null: TextFeatures, settings: StageSettings, num_candidates: int = 1
    ) -> Denoiser:
        """Make the denoiser of standardised image embeddings for `text`, guided away from `null`, the empty prompt.

        It takes `num_candidates` neighbouring rows for each row of `text`, and is for one sampling.
        """
        condition = self.family.condition_prior
        assert condition is not None, f"{type(self.network).__name__} is no prior"
        conditioning = condition(self.network, text, null, len(text.embedding) * num_candidates)
        return self.guided(conditioning, settings, EMBEDDING_BOUND)

    def steps(
        self,
        text: TextFeatures,
        null: TextFeatures,
        noise: NoiseSource,
        settings: StageSettings,
        num_candidates: int = 1,
    ) -> Iterator[SamplerStep]:
        """Sample standardised embeddings (batch * num_candidates, dim) from fresh noise, step by step.

        The candidates of a row draw from the row's own generator, so no row depends on the others.
        """
        shape = (num_candidates, self.network.config.embedding_dim)

        def draw() -> Tensor:
            return self.draw(noise, shape, text.embedding.device).flatten(0, 1)

        denoiser = self.denoiser(text, null, settings, num_candidates)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw)

    def finish(self, x_0: Float[Tensor, "rows dim"], text: TextFeatures) -> Embeddings:
        """Make image embeddings of the result of `steps`: statistics put back, the best candidate of each row kept."""
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
        """Sample image embeddings (batch, dim) of text features, at CLIP's own scale."""
        return self.finish(run_to_end(self.steps(text, null, noise, settings or self.defaults, num_candidates)), text)


# Best of n, unCLIP section 2.2: the candidate with the greatest dot product with z_t.
def best_candidate(
    candidates: Float[Tensor, "batch candidates dim"], text_embedding: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """Return of each row the image embedding nearest in direction to its text (dot product of unit vectors)."""
    points, text = F.normalize(candidates, dim=-1), F.normalize(text_embedding, dim=-1)
    # A sum, not a product of matrices, which a host process may have narrowed to bfloat16.
    scores = (points * text[:, None]).sum(dim=-1)
    return candidates[torch.arange(len(candidates), device=candidates.device), scores.argmax(dim=1)]
