"""How good a prior's embeddings are: cosines and retrieval on held-out samples. Knows no data set and no loop."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.clip import TextFeatures
from unclip.diffusion import DiscreteSchedule
from unclip.models import PriorConfig
from unclip.runtime import NoiseSource
from unclip.training.tasks.drawing import draw

__all__ = ["cosine_figures", "prior_figures"]


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


def cosine_figures(text: Tensor, image: Tensor, predicted: Tensor) -> dict[str, float]:
    """Five cosines of rows that belong together, and retrieval; all (samples, dim).

    `cosine_text_image` is the baseline of real pairs; `cosine_text_predicted`, `cosine_image_predicted`;
    `cosine_unrelated` of predictions with the next sample's text; `cosine_excess`, how much closer to its text a
    prediction is than the picture. `recall_at_1`: how often the picture nearest to a prediction is its own.
    """
    text, image, predicted = (F.normalize(rows.double(), dim=-1) for rows in (text, image, predicted))
    baseline = (text * image).sum(-1).mean()
    to_text = (text * predicted).sum(-1).mean()
    nearest = (predicted @ image.T).argmax(dim=1)
    own = torch.arange(len(image), device=nearest.device)
    figures = {
        "cosine_text_image": baseline,
        "cosine_text_predicted": to_text,
        "cosine_image_predicted": (image * predicted).sum(-1).mean(),
        "cosine_unrelated": (text.roll(-1, 0) * predicted).sum(-1).mean(),
        "cosine_excess": to_text - baseline,
        "recall_at_1": (nearest == own).double().mean(),
    }
    return {name: value.item() for name, value in figures.items()}
