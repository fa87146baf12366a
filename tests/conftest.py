"""Loaded before any test: annotations are checked, threads and random numbers are fixed, the network is off."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

import annotations

if TYPE_CHECKING:
    from unclip.pipelines import Model, UnClip

pytest_plugins = ["durations"]

annotations.install("unclip")

# One thread: sums do not depend on the machine's cores, and two pytest processes do not fight for two cores.
torch.set_num_threads(1)
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}

hypothesis.settings.register_profile("unclip", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("unclip")


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """A test that builds a network or draws without a generator of its own gives the same numbers in any order."""
    annotations.begin_test()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder; tests that damage it take a copy."""
    from unclip.testing import tiny_model

    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def karlo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text-to-image folder as diffusers saves it."""
    from unclip_pipelines import unclip_folder

    return unclip_folder(tmp_path_factory.mktemp("diffusers"))


@pytest.fixture(scope="session")
def pipe() -> "UnClip":
    """The tiny model in memory, in float32."""
    from unclip.testing import tiny_pipeline

    return tiny_pipeline()


@pytest.fixture(scope="session")
def model(pipe: "UnClip") -> "Model":
    return pipe.model


@pytest.fixture(scope="session")
def few_previews() -> Iterator[None]:
    """Training previews of one or two pictures: drawing them would take longer than the steps of most short runs."""
    from unclip.training.tasks import decoder, upsampler

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "NUM_PREVIEWS", 2)
        patch.setattr(upsampler, "NUM_PREVIEWS", 1)
        yield


@pytest.fixture
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of the device from small products: a figure above 0, which is all that most tests of timings need."""
    from unclip.bench import peak

    monkeypatch.setattr(peak, "SIDES", (128, 256))
    monkeypatch.setattr(peak, "CONVOLUTIONS", ((1, 32, 16),))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)
