"""Find blocked concepts in CLIP's embeddings, before anything is drawn of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from jaxtyping import Float

from unclip.errors import InputError

Kind = Literal["text", "image"]
"""CLIP's embeddings of texts, and image embeddings."""
Vectors = Float[np.ndarray, "_vectors dim"]
FALSE_STOPS = 0.02
"""The share of harmless texts that all calibrated concepts may stop, by all kinds of embeddings together."""


@dataclass(frozen=True, eq=False)
class ConceptGate:
    """Concepts as embeddings of examples, beside those of harmless texts; each kind of embedding apart.

    An embedding means a concept where it lies nearer to an example than to anything harmless, by a margin that is
    calibrated for each model: cosines of one CLIP say nothing about another.
    """

    names: tuple[str, ...]
    examples: Mapping[Kind, Sequence[Vectors]]
    """By kind, for each concept its examples, of length 1."""
    harmless: Mapping[Kind, Vectors]
    thresholds: Mapping[Kind, Float[np.ndarray, " concepts"]]
    """The margins from which on a concept is found."""

    @classmethod
    def calibrate(
        cls,
        examples: Mapping[str, Mapping[Kind, np.ndarray]],
        harmless: Mapping[Kind, np.ndarray],
        thresholds: Mapping[str, float | None],
    ) -> Self:
        """Choose the thresholds that no threshold is given for; `examples` by concept and kind, (examples, dim).

        Of harmless texts each is compared with the others: the thresholds are the lowest, equal for all concepts, at
        which `FALSE_STOPS` of them are stopped, each kind having an equal part of it. Raises `InputError` for vectors
        that are zero or not finite.
        """
        names = tuple(examples)
        unit = {kind: [_unit(examples[name][kind]) for name in names] for kind in harmless}
        neutral = {kind: _unit(vectors) for kind, vectors in harmless.items()}
        chosen = {}
        for kind, vectors in neutral.items():
            to_others = vectors @ vectors.T
            np.fill_diagonal(to_others, -1.0)
            nearest = to_others.max(axis=1, keepdims=True)
            margins = np.stack([_nearest(vectors, one) for one in unit[kind]], axis=1) - nearest
            lowest = float(np.quantile(margins.max(axis=1), 1.0 - FALSE_STOPS / len(neutral)))
            chosen[kind] = np.array([lowest if thresholds[name] is None else thresholds[name] for name in names])
        return cls(names, unit, neutral, chosen)

    def margins(self, kind: Kind, embeddings: np.ndarray) -> Float[np.ndarray, "rows concepts"]:
        """Return by how much the cosine to the nearest example exceeds that to anything harmless, in [-2, 2]."""
        vectors = _unit(embeddings)
        to_examples = np.stack([_nearest(vectors, one) for one in self.examples[kind]], axis=1)
        return to_examples - _nearest(vectors, self.harmless[kind])[:, None]


def harmless_texts() -> list[str]:
    """Return the texts that concepts are told apart from."""
    return (Path(__file__).parent / "harmless.txt").read_text(encoding="utf-8").split("\n")[:-1]


def _unit(embeddings: np.ndarray) -> Vectors:
    """Scale each row to length 1, in float64."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InputError("an embedding is zero or not finite, so it means nothing; check the model that made it.")
    return vectors / lengths


def _nearest(vectors: Vectors, others: Vectors) -> Float[np.ndarray, " rows"]:
    """Return the cosine of each row to the nearest of the others; -1 where there are none."""
    return (vectors @ others.T).max(axis=1, initial=-1.0)
