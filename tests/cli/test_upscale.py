"""`unclip upscale`: the file it writes, and wrong input in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.radial_gradient("L").resize((30, 20)).save(tmp_path / "small.png")
    return tmp_path / "small.png"


def test_it_writes_one_larger_picture(unclip: Program, tiny_folder: Path, picture: Path, tmp_path: Path) -> None:
    done = unclip("upscale", picture, "--size", "75", "--seed", "1", "--model", tiny_folder, "-o", tmp_path / "x.png")
    assert (done.code, done.out) == (0, f"{tmp_path / 'x.png'}\n")
    with Image.open(tmp_path / "x.png") as image:
        assert (image.mode, image.size) == ("RGB", (75, 50))
        assert json.loads(image.text["settings"])["image_size"] == [[75, 50]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "30"], "does not enlarge a picture of 30 x 20"),
        (["--size", "big"], "--size"),
        (["--steps", "0"], "--steps of upsampler_32=0"),
    ],
)
def test_wrong_input_is_one_line(
    unclip: Program, tiny_folder: Path, picture: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = unclip("upscale", picture, "--model", tiny_folder, "-o", tmp_path / "x.png", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not (tmp_path / "x.png").exists()
