"""`unclip image-to-image`: the files it writes and what they say; wrong input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def over(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip image-to-image --model tiny` in a folder with a picture."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 30), "red").save("in.png")
    return lambda *arguments: unclip("image-to-image", "--model", tiny_folder, *arguments)


def test_the_file_says_how_it_was_drawn(over: Program) -> None:
    done = over(
        "in.png", "a cat", "--strength", "0.5", "--negative", "a tree", "--seed", "7", "-n", "2", "--size", "48x32"
    )
    assert (done.code, done.out) == (0, "a-cat-7.png\na-cat-8.png\n")
    with Image.open("a-cat-8.png") as image:
        assert image.size == (48, 32)
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"], text["model"]) == ("a cat", "8", "tiny")
    settings = json.loads(text["settings"])
    assert (settings["strength"], settings["negative_prompt"], settings["num_candidates"]) == (0.5, "a tree", 2)


def test_without_a_prompt_it_is_called_after_the_picture(over: Program) -> None:
    done = over("in.png", "--seed", "7", "--size", "16", "--json")
    line = json.loads(done.out)
    assert (line["images"], line["prompt"], line["settings"]["strength"]) == (["in-over-7.png"], "", 0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png cannot be read"),
        (["in.png", "--strength", "0"], "strength=0.0 is not possible"),
        (["in.png", "--strength", "nan"], "strength=nan is not possible"),
        (["in.png", " "], "the prompt is empty"),
        (["in.png", "a cat", "--negative", "a tree", "--guidance", "1"], "--negative needs guidance above 1"),
        (["in.png", "--size", "20x30"], "--size=20x30 has a side that is not divisible by 4"),
    ],
)
def test_wrong_input_is_one_line(over: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = over(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
