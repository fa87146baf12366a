"""Figures from CLIP embeddings: CLIP score, R-precision, diversity, and the prior's cosines."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.features import BLOCK, Rows, blocks, check_pair, check_rows, double

NUM_CANDIDATES = 100


# CLIPScore, Hessel et al. 2021, section 3, with the weight 100 that figures of text-to-image models have.
def clip_score(image_embeddings: Rows, text_embeddings: Rows) -> Float[Tensor, " rows"]:
    """Compute 100 max(cosine, 0) of each picture with its own prompt, the same row, in float64.

    Raises `InputError` for sets of different sizes, for no rows, and for NaN or infinite features.
    """
    check_pairs(image_embeddings, text_embeddings)
    pairs = zip(blocks(image_embeddings), blocks(text_embeddings), strict=True)
    return torch.cat([100 * F.cosine_similarity(a, b, dim=1).clamp(min=0) for a, b in pairs])


# R-precision, Xu et al. 2018 (AttnGAN), section 4.1: its own text among 99 others; with CLIP, Park et al. 2021.
def r_precision(
    image_embeddings: Rows, text_embeddings: Rows, *, num_candidates: int = NUM_CANDIDATES
) -> Float[Tensor, " rows"]:
    """Compute how probably each picture is closer to its own text than to `num_candidates` - 1 random other texts.

    The probability is over all draws of different texts, so neither a seed nor the order of rows matters, and the mean
    over rows is what published figures estimate. Equal rows of texts are one text. Raises like `clip_score`, and
    `InputError` for fewer different texts than candidates.
    """
    check_pairs(image_embeddings, text_embeddings)
    texts, targets = torch.unique(double(text_embeddings), dim=0, return_inverse=True)
    if not 2 <= num_candidates <= len(texts):
        raise InputError(
            f"num_candidates={num_candidates} is not between 2 and the {len(texts)} different texts there are; "
            "measure more prompts or fewer candidates."
        )
    num_closer = text_ranks(image_embeddings, texts, targets)
    # No closer text is drawn: C(others - closer, draws) of C(others, draws) draws.
    others, draws = torch.tensor(len(texts) - 1, device=num_closer.device), num_candidates - 1
    return (_log_choices(others - num_closer, draws) - _log_choices(others, draws)).exp()


def _log_choices(count: Tensor, draws: int) -> Tensor:
    """Compute the logarithm of count! / (count - draws)!, which is -infinity for draws > count."""
    return torch.lgamma(count.double() + 1) - torch.lgamma((count - draws + 1).clamp(min=0).double())


def text_ranks(
    image_embeddings: Rows, text_embeddings: Rows, targets: Int64[Tensor, " rows"]
) -> Int64[Tensor, " rows"]:
    """Count the texts that have a greater cosine with each picture than its text, numbered by `targets`: 0 is a hit."""
    texts = F.normalize(double(text_embeddings), dim=1)
    ranks = []
    for images, numbers in zip(blocks(image_embeddings), targets.split(BLOCK), strict=True):
        scores = F.normalize(images, dim=1).to(texts.device) @ texts.T
        ranks.append((scores > scores.gather(1, numbers[:, None].to(texts.device))).sum(dim=1))
    return torch.cat(ranks)


def diversity(embeddings: Float[Tensor, "prompts pictures dim"]) -> Float[Tensor, " prompts"]:
    """Compute the mean of 1 - cosine over the pairs of pictures of each prompt, in float64: 0 where all are alike.

    Raises `InputError` for fewer than 2 pictures of a prompt, and for NaN or infinite features.
    """
    count = embeddings.shape[1]
    if count < 2:
        raise InputError(f"{count} picture of each prompt has no pairs; draw at least 2.")
    check_rows(embeddings.flatten(0, 1), 1, "the embeddings")
    # The squared length of a sum of unit vectors is their number and twice the sum of the cosines of all pairs.
    sums = F.normalize(double(embeddings), dim=2).sum(dim=1).square().sum(dim=1)
    return 1 - (sums - count) / (count * (count - 1))


def check_pairs(images: Rows, texts: Rows) -> None:
    """Raise `InputError` unless rows of pictures and of their prompts fit each other."""
    check_pair(images, texts, 1, ("the picture embeddings", "the text embeddings"))
    if len(images) != len(texts):
        raise InputError(f"{len(images)} pictures and {len(texts)} texts are no pairs; give one text for each picture.")


COSINE_FIGURES = {
    "cosine_text_image": "a text and its own picture: what a good prediction would reach",
    "cosine_text_predicted": "a text and the embedding predicted for it",
    "cosine_image_predicted": "a picture and the embedding predicted for it",
    "cosine_unrelated": "a prediction and another picture's text",
    "cosine_excess": "how much closer to the text a prediction is than the picture",
    "recall_at_1": "share of predictions whose nearest held-out picture is their own",
}
"""The meaning of each of `cosine_figures`."""


def cosine_figures(
    text: Float[Tensor, "samples dim"], image: Float[Tensor, "samples dim"], predicted: Float[Tensor, "samples dim"]
) -> dict[str, float]:
    """Compute the five cosines and the recall of `COSINE_FIGURES` from rows that belong together, in float64.

    Rows have any length. `cosine_unrelated` compares each prediction with the next sample's text.
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
    """Compute the share of `rows` whose nearest target by cosine has the same number; of equal ones the first wins."""
    rows, targets = (F.normalize(values.double(), dim=-1) for values in (rows, targets))
    nearest = torch.cat([(block @ targets.T).argmax(dim=1) for block in rows.split(BLOCK)])
    return (nearest == torch.arange(len(targets), device=nearest.device)).double().mean().item()
