"""One finished evaluation of the tiny model; tests that continue or damage it take a copy."""

from pathlib import Path

import pytest

from tiny_features import PROMPTS, Finished, options, tiny_network, write_digits
from unclip.evaluate import evaluate_model
from unclip.metrics import ClipFeatures
from unclip.pipelines import UnClip
from unclip.testing import tiny_pipeline


@pytest.fixture(scope="session")
def judge() -> ClipFeatures:
    """A CLIP other than the model's."""
    return ClipFeatures(tiny_pipeline(seed=5).clip, "other")


@pytest.fixture(scope="session")
def finished(pipe: UnClip, judge: ClipFeatures, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("evaluation")
    reference = write_digits(root / "reference", range(7))
    asked = options(root, pictures_per_chunk=2, batch_size=1)
    found = evaluate_model(pipe, PROMPTS, reference, [tiny_network(), judge], root / "out", options=asked)
    assert found is not None
    return Finished(root, found)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return write_digits(tmp_path / "reference", range(7))
