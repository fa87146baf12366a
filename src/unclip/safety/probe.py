"""Tell blocked concepts from harmless texts by a linear probe on a sentence encoder's embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

PENALTY = 1 / 3
"""Of the squared weights, beside the summed losses of the examples."""
SHARE = 0.5
"""What all examples of a concept weigh together, beside all harmless texts."""
NUM_FOLDS = 5
FALSE_STOPS = 0.01
"""The share of harmless texts, each scored by a probe that has not seen it, that may be stopped."""
Weights = Float[np.ndarray, "dim_and_one classes"]
Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class ConceptProbe:
    """Logistic regression of the concepts, the first class being harmless."""

    names: tuple[str, ...]
    weights: Weights
    threshold: float
    """The probability of any concept from which on a text is stopped."""
    embed: Embed
    """Embeds texts, (texts, dim) of length 1."""

    @classmethod
    def fit(
        cls,
        examples: Mapping[str, Sequence[str]],
        harmless: Sequence[str],
        embed: Callable[[Sequence[str]], np.ndarray],
    ) -> Self:
        """Fit the probe to texts, and its threshold to harmless texts that are left out in turn."""
        groups = [embed(texts) for texts in (harmless, *examples.values())]
        folds = np.arange(len(harmless)) % NUM_FOLDS
        unseen = np.empty(len(harmless))
        for fold in range(NUM_FOLDS):
            weights = _fit([groups[0][folds != fold], *groups[1:]])
            unseen[folds == fold] = 1.0 - _probabilities(groups[0][folds == fold], weights)[:, 0]
        return cls(tuple(examples), _fit(groups), float(np.quantile(unseen, 1.0 - FALSE_STOPS)), embed)

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "texts concepts"]:
        """Return the probability of any concept at the likeliest one of each text, 0 at the others."""
        probabilities = _probabilities(self.embed(texts), self.weights)
        likeliest = probabilities[:, 1:] == probabilities[:, 1:].max(axis=1, keepdims=True)
        return np.where(likeliest, 1.0 - probabilities[:, :1], 0.0)


def _probabilities(vectors: np.ndarray, weights: Weights) -> Float[np.ndarray, "rows classes"]:
    logits = vectors.astype(np.float64) @ weights[:-1] + weights[-1]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def _fit(groups: Sequence[np.ndarray]) -> Weights:
    """Minimise the weighted cross-entropy of classes with squared weights, all in float64."""
    import torch  # `unclip verify` does without

    vectors = torch.from_numpy(np.concatenate(groups).astype(np.float64))
    classes = torch.cat([torch.full((len(group),), place) for place, group in enumerate(groups)])
    importance = torch.tensor([1.0, *(SHARE * len(groups[0]) / len(group) for group in groups[1:])])[classes].double()
    with torch.enable_grad():
        weights = torch.zeros(vectors.shape[1] + 1, len(groups), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

        def loss() -> float:
            optimizer.zero_grad()
            losses = torch.nn.functional.cross_entropy(vectors @ weights[:-1] + weights[-1], classes, reduction="none")
            value = (importance * losses).sum() + PENALTY / 2 * weights[:-1].square().sum()
            value.backward()
            return float(value.detach())

        optimizer.step(loss)
    return weights.detach().numpy()
