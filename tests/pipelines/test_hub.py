"""Hub repositories, from a cache laid out as the hub's own library does; the network is off."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

from unclip.errors import InputError
from unclip.pipelines import UnClip, find_model
from unclip.pipelines.hub import looks_like_repository

COMMITS = {"main": "0123456789abcdef0123456789abcdef01234567", "v2": "fedcba9876543210fedcba9876543210fedcba98"}


@pytest.fixture
def cache(tiny_folder: Path, karlo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the tiny model as someone/tiny and a diffusers folder as someone/karlo, at two commits."""
    for name, folder in (("tiny", tiny_folder), ("karlo", karlo_folder)):
        repository = tmp_path / "hub" / f"models--someone--{name}"
        (repository / "refs").mkdir(parents=True)
        for revision, commit in COMMITS.items():
            shutil.copytree(folder, repository / "snapshots" / commit)
            (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--someone--tiny"


def test_a_repository_is_read_from_the_cache(cache: Path) -> None:
    assert find_model("someone/tiny") == cache / "snapshots" / COMMITS["main"]
    pipe = UnClip.load("someone/tiny", "cpu", torch.float32)
    assert pipe.decoder.image_size == 16


def test_a_repository_of_diffusers_is_read_too(cache: Path, karlo_folder: Path) -> None:
    pipe = UnClip.load("someone/karlo@v2", "cpu", torch.float32)
    assert pipe.name == f"someone/karlo@{COMMITS['v2'][:12]}"
    expected = UnClip.load(karlo_folder, "cpu", torch.float32).decoder.network.unet.conv_in.weight
    assert torch.equal(pipe.decoder.network.unet.conv_in.weight, expected)


@pytest.mark.parametrize("revision", ["v2", COMMITS["v2"]])
def test_a_revision_is_pinned(cache: Path, revision: str) -> None:
    expected = cache / "snapshots" / COMMITS["v2"]
    assert find_model("someone/tiny", revision) == expected
    assert find_model(f"someone/tiny@{revision}") == expected


def test_what_is_not_there_is_one_line(cache: Path) -> None:
    for name, revision in (("someone/else", None), ("someone/tiny", "v3")):
        with pytest.raises(InputError, match=f"^{name} is no folder here, the hub's cache does not have it") as caught:
            UnClip.load(name, revision=revision)
        assert "\n" not in str(caught.value)


def test_names_of_repositories() -> None:
    assert looks_like_repository("owner/name-1.0")
    assert looks_like_repository("owner/name@main")
    assert not looks_like_repository("emoji")
    assert not looks_like_repository("a/b/c")
    assert not looks_like_repository("./here")
    assert not looks_like_repository("/tmp/x")
