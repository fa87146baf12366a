"""The tiny model in memory, built once."""

import pytest
import torch

from unclip.pipelines import Model, UnClip
from unclip.testing import tiny_pipeline


@pytest.fixture(scope="session")
def pipe() -> UnClip:
    """The tiny model in float32."""
    return tiny_pipeline()


@pytest.fixture(scope="session")
def model(pipe: UnClip) -> Model:
    return pipe.model


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)
