"""Ours beside torch-fidelity, whose answers are stored: it needs torchvision, which has an environment of its own."""

import pytest
import torch

from metric_golden import PICTURES, answers, picture, weights
from unclip.checkpoint import load_weights
from unclip.evaluation import Inception, InceptionFeatures

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
