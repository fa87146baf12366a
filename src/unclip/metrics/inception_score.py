"""The Inception score of class logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics.estimates import Estimate
from unclip.metrics.features import Counts, Rows, blocks, check_rows, once


def inception_score(logits: Rows, num_splits: int = 1) -> Estimate:
    """Compute exp of the mean divergence of a picture's classes from those of all, in [1, classes], mean over splits.

    Splits are consecutive rows of almost equal number; published figures have 10, and the score falls with the rows of
    a split. One split does not depend on the order. Raises `InputError` for fewer rows than splits and for NaN or
    infinite logits.
    """
    if num_splits < 1:
        raise InputError(f"num_splits={num_splits} gives no figure; use 1, or 10 as published figures do.")
    check_rows(logits, num_splits, "the logits")
    scores = torch.cat([inception_scores(part, once(part)) for part in logits.tensor_split(num_splits)])
    return Estimate(scores.mean().item(), scores.std(correction=0).item())


# Salimans et al. 2016, section 4; the mean divergence is the entropy of the mean less the mean entropy.
def inception_scores(logits: Rows, counts: Counts) -> Float[Tensor, " _resamples"]:
    """Compute the scores of several sets drawn from the rows, without checks."""
    mean = torch.zeros(counts.shape[1], logits.shape[1], dtype=torch.float64)
    entropy = torch.zeros(counts.shape[1], dtype=torch.float64)
    for block, times in zip(blocks(logits), blocks(counts), strict=True):
        log_probs = block.log_softmax(dim=1)
        mean += (times.T @ log_probs.exp()).cpu() / len(logits)
        entropy -= (times.T @ (log_probs.exp() * log_probs).sum(dim=1)).cpu() / len(logits)
    return (-torch.xlogy(mean, mean).sum(dim=1) - entropy).exp()
