"""The probe tells concepts from harmless texts, and stops as few of those as it was fitted to."""

from collections.abc import Sequence

import numpy as np

from unclip.safety import ConceptProbe

DIM = 16
DIRECTIONS = dict(zip("ab", np.eye(DIM), strict=False))


def embed(texts: Sequence[str]) -> np.ndarray:
    """Texts begin with the name of a direction, or "-"; the rest is the seed of noise."""
    rows = [
        2.0 * DIRECTIONS.get(text[0], np.zeros(DIM)) + np.random.default_rng(int(text[1:])).normal(size=DIM) / 3
        for text in texts
    ]
    return np.stack([row / np.linalg.norm(row) for row in rows])


def texts(name: str, first: int, count: int) -> list[str]:
    return [f"{name}{number}" for number in range(first, first + count)]


def test_concepts_are_found_and_kept_apart_from_harmless_texts() -> None:
    probe = ConceptProbe.fit({name: texts(name, 0, 20) for name in DIRECTIONS}, texts("-", 100, 400), embed)
    for place, name in enumerate(DIRECTIONS):
        scores = probe.scores(texts(name, 1000, 100))
        assert (scores[:, place] >= probe.threshold).mean() >= 0.9
        assert scores[:, 1 - place].max() == 0.0
    stopped = probe.scores(texts("-", 2000, 2000)).max(axis=1) >= probe.threshold
    # 1 % asked, a quantile of 400.
    assert 0.0 < stopped.mean() <= 0.03


def test_the_same_examples_give_the_same_probe() -> None:
    first, second = (ConceptProbe.fit({"a": texts("a", 0, 5)}, texts("-", 100, 50), embed).weights for _ in range(2))
    np.testing.assert_array_equal(first, second)
