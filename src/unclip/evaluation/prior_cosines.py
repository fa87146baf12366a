"""How close a prior's embeddings are to what they should be. Knows rows of embeddings; no prior and no CLIP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["COSINE_FIGURES", "cosine_figures", "recall_at_1"]

COSINE_FIGURES = {
    "cosine_text_image": "a text and its own picture: what a good prediction would reach",
    "cosine_text_predicted": "a text and the embedding predicted for it",
    "cosine_image_predicted": "a picture and the embedding predicted for it",
    "cosine_unrelated": "a prediction and another picture's text",
    "cosine_excess": "how much closer to the text a prediction is than the picture",
    "recall_at_1": "share of predictions whose nearest held-out picture is their own",
}
"""What each of `cosine_figures` is of."""

BLOCK = 1024
"""Rows whose similarities are in memory together."""


def cosine_figures(
    text: Float[Tensor, "samples dim"], image: Float[Tensor, "samples dim"], predicted: Float[Tensor, "samples dim"]
) -> dict[str, float]:
    """Five cosines of rows that belong together, and retrieval; of rows of any length, in float64.

    `cosine_text_image` is the baseline of real pairs; `cosine_text_predicted`, `cosine_image_predicted`;
    `cosine_unrelated` of predictions with the next sample's text; `cosine_excess`, how much closer to its text a
    prediction is than the picture. `recall_at_1`: how often the picture nearest to a prediction is its own.
    """
    text, image, predicted = (F.normalize(rows.double(), dim=-1) for rows in (text, image, predicted))
    baseline = (text * image).sum(-1).mean()
    to_text = (text * predicted).sum(-1).mean()
    figures = {
        "cosine_text_image": baseline,
        "cosine_text_predicted": to_text,
        "cosine_image_predicted": (image * predicted).sum(-1).mean(),
        "cosine_unrelated": (text.roll(-1, 0) * predicted).sum(-1).mean(),
        "cosine_excess": to_text - baseline,
    }
    return {name: value.item() for name, value in figures.items()} | {"recall_at_1": recall_at_1(predicted, image)}


def recall_at_1(rows: Float[Tensor, "samples dim"], targets: Float[Tensor, "samples dim"]) -> float:
    """The share of `rows` to which the target of the same number is nearest by cosine; of equal ones the first wins."""
    rows, targets = (F.normalize(given.double(), dim=-1) for given in (rows, targets))
    nearest = torch.cat([(block @ targets.T).argmax(dim=1) for block in rows.split(BLOCK)])
    return (nearest == torch.arange(len(targets), device=nearest.device)).double().mean().item()
