"""`unclip variations`: the files it writes, what they say about themselves, and wrong input in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def variations(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip variations dot.png --model tiny --steps 2` in a folder with that picture."""
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").resize((30, 20)).save("dot.png")
    words = ("--model", tiny_folder, "--steps", "2")
    return lambda *arguments: unclip("variations", "dot.png", *words, *arguments)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_a_picture_for_each_seed_that_says_how_it_was_drawn(variations: Program, tmp_path: Path) -> None:
    done = variations("-n", "2", "--seed", "7", "--eta", "0.5", "--prompt", "a red apple", "--text-weight", "0.3")
    assert (done.code, done.out) == (0, "dot-variation-7.png\ndot-variation-8.png\n")
    assert files(tmp_path) == ["dot-variation-7.png", "dot-variation-8.png", "dot.png"]
    with Image.open("dot-variation-8.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"], image.size) == ("a red apple", "8", (32, 32))
    settings = json.loads(text["settings"])
    assert {name: settings[name] for name in ("eta", "exact", "text_weight")} == {
        "eta": 0.5, "exact": False, "text_weight": 0.3,
    }  # fmt: skip
    assert settings["decoder"]["sampler"] == "ddim"


def test_an_exact_reconstruction_is_the_same_for_every_seed(variations: Program, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        assert variations("--eta", "0", "--exact", "--seed", seed, "-o", f"{seed}.png").code == 0
    first, second = (Image.open(tmp_path / f"{seed}.png").tobytes() for seed in ("1", "2"))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eta", "2"], "eta=2.0 is not possible; give a number from 0 to 1"),
        (["--exact"], "exact=True goes back to the noise of the picture, so it needs eta"),
        (["--eta", "0", "--sampler", "heun"], "does not lead back to a picture"),
        (["--prompt", ""], "the prompt is empty"),
        (["--text-weight", "much"], "--text-weight"),
    ],
)
def test_wrong_input_is_one_line(variations: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = variations(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert files(tmp_path) == ["dot.png"]
