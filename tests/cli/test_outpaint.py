"""`unclip outpaint`: the file it writes, by pixels and by aspect, and wrong inputs in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def outpaint(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip outpaint --model tiny` in a folder with a picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save("photo.png")
    return lambda *arguments: unclip("outpaint", *arguments, "--model", tiny_folder, "--seed", "7")


def test_by_pixels(outpaint: Program) -> None:
    done = outpaint("photo.png", "a red apple", "--left", "5", "--bottom", "7", "-o", "out.png")
    assert (done.code, done.out) == (0, "out.png\n")
    before, after = (np.asarray(Image.open(name)) for name in ("photo.png", "out.png"))
    assert after.shape == (37, 45, 3)
    assert np.array_equal(after[:30, 5:], before)
    with Image.open("out.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"]) == ("a red apple", "7")
    settings = json.loads(text["settings"])
    assert [settings[side] for side in ("left", "top", "right", "bottom")] == [5, 0, 0, 7]
    assert (settings["image_size"], settings["window"]) == ([45, 37], 32)


def test_by_aspect(outpaint: Program) -> None:
    done = outpaint(
        "photo.png", "--aspect", "16:9", "--window", "20", "--size", "16", "-n", "2", "--batch-size", "1", "--json"
    )
    line = json.loads(done.out)
    assert line["images"] == ["photo-outpainted-7.png", "photo-outpainted-8.png"]
    assert (line["settings"]["image_size"], line["settings"]["window"]) == ([53, 30], 20)
    # Four windows of two pictures, 5 steps each: one line for a stage, when all of them are done.
    assert done.err.splitlines() == ["decoder: 40 steps"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png"], "there is nothing to extend"),
        (["photo.png", "--aspect", "4:3"], "there is nothing to extend"),
        (["photo.png", "--aspect", "wide"], "--aspect 'wide' cannot be read; write WIDTH:HEIGHT"),
        (["photo.png", "--aspect", "16:0"], "aspect=(16, 0) is not possible"),
        (["photo.png", "--aspect", "16:9", "--top", "5"], "aspect and pixels were both given"),
        (["photo.png", "--left", "-5"], "left=-5"),
        (["photo.png", "--left", "some"], "'--left'"),
        (["photo.png", "--right", "99999999"], "has more than 134217728 pixels"),
        (["nowhere.png", "--right", "9"], "nowhere.png cannot be read"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(outpaint: Program, arguments: list[str], message: str) -> None:
    done = outpaint(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("unclip: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert [path.name for path in Path().iterdir()] == ["photo.png"]
