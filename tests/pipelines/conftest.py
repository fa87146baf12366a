"""The tiny model, in memory and on disk, built once."""

from pathlib import Path

import pytest
import torch

from unclip.pipelines import Model, UnClip
from unclip.testing import tiny_model, tiny_pipeline
from unclip_pipelines import unclip_folder


@pytest.fixture(scope="session")
def pipe() -> UnClip:
    """The tiny model in float32."""
    return tiny_pipeline()


@pytest.fixture(scope="session")
def model(pipe: UnClip) -> Model:
    return pipe.model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder; tests that damage it take a copy."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def karlo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text-to-image folder as diffusers saves it."""
    return unclip_folder(tmp_path_factory.mktemp("diffusers"))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)
