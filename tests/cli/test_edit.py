"""`unclip edit`: the file it writes, what it says about itself, and wrong input in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def edit(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip edit dot.png --from "a cat" --model tiny --steps 2` in a folder with that picture."""
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").resize((30, 20)).save("dot.png")
    words = ("--from", "a cat", "--model", tiny_folder, "--steps", "2", "--seed", "7")
    return lambda *arguments: unclip("edit", "dot.png", *words, *arguments)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_it_writes_one_picture_that_says_how_it_was_drawn(edit: Program, tmp_path: Path) -> None:
    done = edit("--to", "a red apple")
    assert (done.code, done.out) == (0, "dot-to-a-red-apple-7.png\n")
    assert files(tmp_path) == ["dot-to-a-red-apple-7.png", "dot.png"]
    with Image.open("dot-to-a-red-apple-7.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    settings = json.loads(text["settings"])
    assert (image.size, text["prompt"], settings["source"]) == ((32, 32), "a red apple", "a cat")
    assert 0 < settings["theta"][0] <= 1


def test_several_thetas_are_a_strip_or_a_folder(edit: Program, tmp_path: Path) -> None:
    assert edit("--to", "a red apple", "--theta", "0,0.2,0.4", "-o", "strip.png").code == 0
    assert edit("--to", "a red apple", "--theta", "0,0.2,0.4", "-o", "all/").code == 0
    parts = [f"all/dot-to-a-red-apple-7-{number}.png" for number in (1, 2, 3)]
    assert files(tmp_path) == [*parts, "dot.png", "strip.png"]
    with Image.open("strip.png") as strip, Image.open(parts[2]) as third:
        assert strip.height == 32
        assert strip.crop((strip.width - 32, 0, strip.width, 32)).tobytes() == third.tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--to"),
        (["--to", "a cat"], "source and target say the same to CLIP"),
        (["--to", "a dog", "--theta", "1.5"], "theta=1.5 is not possible; give a number from 0 to 1"),
        (["--to", "a dog", "--theta", "0.2;0.4"], "--theta '0.2;0.4' cannot be read"),
        (["--to", "a dog", "-o", "strip.jpg"], "strip.jpg"),
    ],
)
def test_wrong_input_is_one_line(edit: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = edit(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert files(tmp_path) == ["dot.png"]
