"""`unclip basis` and `unclip probe`: a basis of a folder's pictures, a strip drawn with it, and wrong inputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.data import emoji_items, write_shards
from unclip.model import BASIS_FILE, EmbeddingBasis
from unclip.pipelines import UnClip

Program = Callable[..., Any]
FAST = ("--seed", "7", "--steps", "2", "--size", "16")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three pictures in `pictures`."""
    monkeypatch.chdir(tmp_path)
    for place in range(3):
        path = tmp_path / "pictures" / str(place) / "x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((20, 20, 3), 100 * place, dtype=np.uint8)).rotate(9 * place).save(path)
    return tmp_path


def test_a_strip_of_reconstructions(unclip: Program, tiny_folder: Path, folder: Path) -> None:
    fitted = unclip("basis", "pictures", "--model", tiny_folder, "-o", "basis.safetensors")
    assert (fitted.code, fitted.out, fitted.err) == (0, "basis.safetensors\n", "embedding: 3 pictures\n")
    command = ("probe", "pictures/1/x.png", "--model", tiny_folder, "--basis", "basis.safetensors", *FAST)
    assert unclip(*command, "--components", "1,2,16").out == "x-probe-7.png\n"
    with Image.open("x-probe-7.png") as strip:
        assert strip.size == (3 * 16 + 2 * 2, 16)
        settings = json.loads(strip.text["settings"])  # type: ignore[attr-defined]
    assert settings["num_components"] == [1, 2, 16]
    assert len(json.loads(unclip(*command, "-o", "all/", "--json").out)["images"]) == 5


def test_a_model_finds_the_basis_in_its_folder(unclip: Program, tiny_folder: Path, folder: Path) -> None:
    model = Path(shutil.copytree(tiny_folder, folder / "model"))
    assert unclip("basis", "pictures", "--model", model, "-o", model / BASIS_FILE).code == 0
    assert unclip("probe", "pictures/1/x.png", "--model", model, *FAST, "-o", "strip.png").code == 0
    with Image.open("strip.png") as strip:
        assert strip.size == (5 * 16 + 4 * 2, 16)


def test_shards_are_pictures_too(unclip: Program, tiny_folder: Path, folder: Path) -> None:
    write_shards("shards", emoji_items("test")[:5], 32, "few")
    assert unclip("basis", "shards", "--model", tiny_folder, "-o", "basis.safetensors").code == 0
    basis = EmbeddingBasis.load("basis.safetensors")
    z = UnClip.load(tiny_folder, "cpu").clip.encode_pictures([Image.open("pictures/0/x.png")])
    torch.testing.assert_close(basis.keep(z, 16), z, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "pictures/1/x.png"], "the model 'tiny' has no basis of its image embeddings"),
        (["probe", "pictures/1/x.png", "--basis", "nowhere"], "nowhere"),
        (["probe", "pictures/1/x.png", "--components", "1,all"], "--components '1,all' cannot be read"),
        (["probe", "pictures"], "pictures cannot be read"),
        (["basis", "nowhere"], "nowhere holds no pictures"),
        (["basis", "pictures/1"], "2 embeddings or more; found 1"),
        (["basis", "pictures", "-o", "pictures"], "cannot write pictures"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    unclip: Program, tiny_folder: Path, folder: Path, arguments: list[str], message: str
) -> None:
    done = unclip(*arguments, "--model", tiny_folder)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("unclip: ") == 1
    assert message in done.err.splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["pictures"]
