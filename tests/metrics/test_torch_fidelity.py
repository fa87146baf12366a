"""Ours beside torch-fidelity, whose answers are stored: it needs torchvision, which has an environment of its own."""

import pytest
import torch

from metric_golden import PICTURES, answers, picture, rows, weights
from unclip.checkpoint import load_weights
from unclip.metrics import (
    Inception,
    InceptionFeatures,
    frechet_distance,
    inception_score,
    kernel_distance,
    manifold_metrics,
)

OUTPUTS, METRICS = answers()


@pytest.fixture(scope="module")
def network() -> InceptionFeatures:
    """Ours with the weights that the peer had, under the names that it has for them."""
    inception = Inception()
    state = weights({name: tuple(tensor.shape) for name, tensor in inception.state_dict().items()})
    load_weights(inception, state, "the rule")
    return InceptionFeatures(inception)


@pytest.mark.parametrize("name", PICTURES)
def test_inception(network: InceptionFeatures, name: str) -> None:
    found = network(picture(name))
    torch.testing.assert_close(found["inception"], OUTPUTS[f"{name}/2048"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["inception_logits"], OUTPUTS[f"{name}/logits_unbiased"], rtol=1e-4, atol=1e-5)
    biased = found["inception_logits"] + network.network.fc.bias
    torch.testing.assert_close(biased, OUTPUTS[f"{name}/logits"], rtol=1e-4, atol=1e-5)


def close(found: float, name: str) -> None:
    assert found == pytest.approx(METRICS[name], rel=1e-6, abs=0)


def test_frechet_distance() -> None:
    close(frechet_distance(rows("drawn"), rows("real")), "fid")


def test_kernel_distance() -> None:
    close(kernel_distance(rows("equal"), rows("drawn")), "kid")


@pytest.mark.parametrize("num_splits", [1, 10])
def test_inception_score(num_splits: int) -> None:
    found = inception_score(rows("logits"), num_splits)
    close(found.value, f"is_{num_splits}")
    close(found.std, f"is_{num_splits}_std")


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(k: int) -> None:
    found = manifold_metrics(rows("real"), rows("drawn"), k)
    close(found.precision, f"precision_{k}")
    close(found.recall, f"recall_{k}")
