"""The gate finds what lies nearer to an example than to anything harmless, and stops few harmless texts."""

import numpy as np
import pytest

from unclip.errors import InputError
from unclip.safety.concepts import FALSE_STOPS, ConceptGate, harmless_texts


def around(centre: np.ndarray, count: int, spread: float, seed: int) -> np.ndarray:
    return centre + spread * np.random.default_rng(seed).normal(size=(count, len(centre)))


DIM = 32
CENTRES = np.random.default_rng(0).normal(size=(2, DIM))
HARMLESS = np.random.default_rng(1).normal(size=(2000, DIM))


def gate(threshold: float | None = None) -> ConceptGate:
    examples = {name: {"text": around(centre, 8, 0.2, 2)} for name, centre in zip("ab", CENTRES, strict=True)}
    return ConceptGate.calibrate(examples, {"text": HARMLESS}, {"a": threshold, "b": None})


def test_margins_are_differences_of_cosines() -> None:
    made = ConceptGate.calibrate(
        {"x": {"text": np.array([[2.0, 0.0]])}}, {"text": np.array([[0.0, 3.0], [0.0, -1.0]])}, {"x": 0.5}
    )
    margins = made.margins("text", np.array([[5.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]))
    np.testing.assert_allclose(margins[:, 0], [1.0, -1.0, 0.0, -1.0], atol=1e-12)
    assert made.thresholds["text"].tolist() == [0.5]


def test_concepts_are_found_and_kept_apart() -> None:
    made = gate()
    for place, centre in enumerate(CENTRES):
        margins = made.margins("text", around(centre, 100, 0.2, 3))
        assert (margins[:, place] >= made.thresholds["text"][place]).mean() == 1.0
        assert (margins[:, 1 - place] >= made.thresholds["text"][1 - place]).mean() == 0.0


def test_the_share_of_harmless_that_is_stopped_is_as_calibrated() -> None:
    made, fresh = gate(), np.random.default_rng(4).normal(size=(4000, DIM))
    stopped = (made.margins("text", fresh) >= made.thresholds["text"]).any(axis=1).mean()
    # Within 4 standard deviations of the quantile of 2,000 and of a share of 4,000.
    assert 0.004 <= stopped <= 0.036
    assert FALSE_STOPS == 0.02


def test_a_given_threshold_holds_for_its_concept_alone() -> None:
    np.testing.assert_array_equal(gate(1.5).thresholds["text"], [1.5, gate().thresholds["text"][1]])


def test_length_does_not_matter() -> None:
    vectors = around(CENTRES[0], 5, 0.2, 5)
    np.testing.assert_allclose(gate().margins("text", vectors), gate().margins("text", 7.0 * vectors), atol=1e-12)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="zero or not finite"):
        gate().margins("text", np.full((1, DIM), bad))


def test_harmless_texts_are_many_and_different() -> None:
    texts = harmless_texts()
    assert len(texts) == len(set(texts)) == 300
    assert all(text.strip() for text in texts)
