"""`unclip mix`: parts with weights, the files it writes, and wrong inputs in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip.cli.tasks import parse_part

Program = Callable[..., Any]


@pytest.fixture
def mix(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip mix --model tiny` in a folder with one picture."""
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("grey.png")
    return lambda *arguments: unclip("mix", "--model", tiny_folder, *arguments)


def test_pictures_say_their_parts(mix: Program, tmp_path: Path) -> None:
    done = mix("a cat=0.7", "grey.png=-0.3", "a dog", "-n", "2", "--seed", "7", "--steps", "2", "--size", "16")
    names = [f"a-cat-grey-a-dog-{seed}.png" for seed in (7, 8)]
    assert (done.code, done.out.split()) == (0, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "grey.png"]
    with Image.open(names[1]) as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (text["seed"], text["prompt"]) == ("8", "a dog")
    assert json.loads(text["settings"])["parts"] == [["a cat", 0.7], ["grey.png", -0.3], ["a dog", 1.0]]


def test_the_weight_stands_after_the_last_sign() -> None:
    assert parse_part("a cat") == ("a cat", 1.0)
    assert parse_part("a=b=-2") == ("a=b", -2.0)
    assert parse_part("grey.png=.5") == ("grey.png", 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat=much"], "'a cat=much': 'much' is no weight"),
        (["a cat="], "'a cat=': '' is no weight"),
        (["a cat=nan"], "the weight of a cat=nan"),
        (["a cat=0", "a dog=0"], "all weights are 0"),
        (["=1"], "the prompt is empty"),
        (["a cat", "nowhere.jpg=0.5"], "nowhere.jpg is named like a picture"),
        ([], "Missing argument"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    mix: Program, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = mix(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["grey.png"]
