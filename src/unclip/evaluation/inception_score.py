"""The Inception score of class logits. Knows rows of logits; no picture and no network."""

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation.estimates import Estimate
from unclip.evaluation.rows import Rows, blocks, check_rows

__all__ = ["inception_score"]


def inception_score(logits: Rows, num_splits: int = 1) -> Estimate:
    """exp of the mean divergence of a picture's classes from those of all, in [1, classes]; mean over the splits.

    Splits are consecutive rows of almost equal number; published figures have 10, and the score falls with the rows of
    a split. One split does not depend on the order. Raises `InputError` for fewer rows than splits and for NaN or
    infinite logits.
    """
    if num_splits < 1:
        raise InputError(f"num_splits={num_splits} gives no figure; use 1, or 10 as published figures do.")
    check_rows(logits, num_splits, "the logits")
    scores = torch.stack([_score(part) for part in logits.tensor_split(num_splits)])
    return Estimate(scores.mean().item(), scores.std(correction=0).item())


# Salimans et al. 2016, section 4; the mean divergence is the entropy of the mean less the mean entropy.
def _score(logits: Tensor) -> Tensor:
    mean, entropy = torch.zeros(()), torch.zeros(())
    for block in blocks(logits):
        log_probs = block.log_softmax(dim=1)
        mean = mean.to(block) + log_probs.exp().sum(dim=0) / len(logits)
        entropy = entropy.to(block) - (log_probs.exp() * log_probs).sum() / len(logits)
    return (-torch.xlogy(mean, mean).sum() - entropy).exp()
