"""`unclip edit`: a strip, an animation or files of a picture on its way to another text, and wrong input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Program = Callable[..., Any]
WORDS = ["--from", "a cat", "--to", "a red apple"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.radial_gradient("L").resize((30, 30)).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def edit(unclip: Program, tiny_folder: Path, picture: Path) -> Program:
    """Run `unclip edit` on a picture with few steps."""
    return lambda *words: unclip("edit", picture, "--model", tiny_folder, "--steps", "3", *words)


def test_several_thetas_make_a_strip(edit: Program, tmp_path: Path) -> None:
    done = edit(*WORDS, "--theta", "0,0.3,1", "-o", tmp_path / "strip.png")
    assert (done.code, done.out) == (0, f"{tmp_path / 'strip.png'}\n")
    with Image.open(tmp_path / "strip.png") as image:
        assert image.size == (3 * 32 + 4, 32)
        settings = json.loads(image.text["settings"])  # type: ignore[attr-defined]
    assert (settings["source"], settings["theta"]) == ("a cat", [0.0, 0.3, 1.0])


def test_without_theta_the_texts_say_how_far(edit: Program, tmp_path: Path) -> None:
    assert edit(*WORDS, "-o", tmp_path / "x.png").code == 0
    with Image.open(tmp_path / "x.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (image.size, text["prompt"]) == ((32, 32), "a red apple")
    assert 0 < json.loads(text["settings"])["theta"][0] <= 1


def test_theta_0_is_the_reconstruction(
    edit: Program, unclip: Program, tiny_folder: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert edit(*WORDS, "--theta", "0", "--seed", "1", "-o", "edited.png").code == 0
    same = ["--eta", "0", "--steps", "3", "--seed", "1", "--model", tiny_folder, "-o", "same.png"]
    assert unclip("variations", picture, *same).code == 0
    with Image.open("edited.png") as edited, Image.open("same.png") as given:
        assert edited.tobytes() == given.tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "a cat", "--to", "a cat"], "say the same"),
        ([*WORDS, "--theta", "1.5"], "theta=1.5"),
        ([*WORDS, "--theta", "far"], "--theta 'far' cannot be read"),
        (["--from", "a cat"], "--to"),
        (["--from", "a cat", "--to", " "], "is empty"),
    ],
)
def test_wrong_input_is_one_line(edit: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = edit(*arguments, "-o", tmp_path / "x.png")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not (tmp_path / "x.png").exists()
