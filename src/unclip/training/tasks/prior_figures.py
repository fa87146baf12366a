"""How good a prior's embeddings are: cosines and retrieval on held-out samples. Knows no data set and no loop."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unclip.clip import TextFeatures
from unclip.diffusion import DiscreteSchedule
from unclip.evaluation import cosine_figures
from unclip.models import PriorConfig
from unclip.runtime import NoiseSource
from unclip.training.tasks.drawing import draw

__all__ = ["prior_figures"]


def prior_figures(
    network: nn.Module,
    model: PriorConfig,
    schedule: DiscreteSchedule,
    pairs: Sequence[tuple[TextFeatures, Tensor]],
    mean: Tensor,
    std: Tensor,
) -> dict[str, float]:
    """`cosine_figures` of embeddings drawn with fixed noise in 16 steps of DPM-Solver++, without guidance."""
    if not pairs:
        return {}
    predicted = []
    for number, (text, image) in enumerate(pairs):
        conditioning = {"text_embedding": text.embedding}
        if model.num_text_tokens:
            conditioning |= {"text_hidden": text.hidden, "text_mask": text.mask}
        noise = NoiseSource.from_seeds(range(number * len(image), (number + 1) * len(image)))
        drawn = draw(network, model, schedule, conditioning, noise, tuple(image.shape[1:]), image.device)
        predicted.append(drawn * std.to(image.device) + mean.to(image.device))
    texts = torch.cat([text.embedding for text, _ in pairs])
    return cosine_figures(texts, torch.cat([image for _, image in pairs]), torch.cat(predicted))
