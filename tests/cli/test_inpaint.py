"""`unclip inpaint`: the file it writes, three ways to say what and where, and wrong inputs in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Program = Callable[..., Any]


@pytest.fixture
def inpaint(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip inpaint --model tiny` in a folder with a picture, a mask, and both in one."""
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    mask = Image.new("L", picture.size)
    mask.paste(255, (10, 5, 20, 15))
    picture.save("photo.png")
    mask.save("mask.png")
    picture.putalpha(mask.point(lambda value: 255 - value))
    picture.save("cutout.png")
    return lambda *arguments: unclip("inpaint", *arguments, "--model", tiny_folder, "--seed", "7")


def test_picture_mask_and_prompt(inpaint: Program) -> None:
    done = inpaint("photo.png", "mask.png", "a red apple", "-o", "out.png", "--feather", "2", "--resamples", "2")
    assert (done.code, done.out) == (0, "out.png\n")
    before, after, mask = (np.asarray(Image.open(name)) for name in ("photo.png", "out.png", "mask.png"))
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert not np.array_equal(after, before)
    with Image.open("out.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"]) == ("a red apple", "7")
    settings = json.loads(text["settings"])
    assert settings["image_size"] == [40, 30]
    assert (settings["feather"], settings["num_resamples"], settings["drawn_size"]) == (2, 2, 32)


def test_a_cutout_needs_no_mask_and_a_mask_no_prompt(inpaint: Program) -> None:
    assert inpaint("cutout.png", "--prompt", "a red apple", "-o", "a.png").code == 0
    assert inpaint("photo.png", "mask.png", "--prompt", "a red apple", "-o", "b.png").code == 0
    one, other = Image.open("a.png"), Image.open("b.png")
    assert (one.mode, one.convert("RGB").tobytes()) == ("RGBA", other.tobytes())
    done = inpaint("photo.png", "mask.png", "-n", "2", "--size", "16", "--json")
    line = json.loads(done.out)
    assert line["images"] == ["photo-inpainted-7.png", "photo-inpainted-8.png"]
    assert "prior" not in line["settings"]


def test_what_a_mask_selects_is_said(inpaint: Program) -> None:
    quick = ["--steps", "1", "--size", "16", "-o", "out.png"]

    def notes(*arguments: str) -> list[str]:
        done = inpaint(*arguments, *quick)
        assert (done.code, done.out) == (0, "out.png\n")
        return [line for line in done.err.splitlines() if line.startswith("note: ")]

    for name, value in (("black", 0), ("white", 255)):
        Image.new("L", (40, 30), value).save(f"{name}.png")
    assert notes("photo.png", "black.png") == ["note: the mask selects nothing, so nothing was painted"]
    with Image.open("photo.png") as before, Image.open("out.png") as after:
        assert after.tobytes() == before.tobytes()
    whole = ["note: the mask selects the whole picture, so nothing of it was kept"]
    assert notes("photo.png", "white.png") == whole
    assert notes("photo.png", "mask.png") == []
    assert notes("photo.png", "mask.png", "--mask-is", "white") == []
    # 100 of 1200 pixels.
    clear = ["note: what is transparent was painted, 8.3% of the picture"]
    assert notes("cutout.png") == clear
    assert notes("photo.png", "cutout.png") == clear
    assert notes("photo.png", "cutout.png", "--mask-is", "alpha") == clear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png"], "there is no mask, and nothing in the picture is transparent"),
        (["photo.png", "mask.png", "--mask-is", "alpha"], "the mask mask.png has nothing transparent"),
        (["photo.png", "mask.png", "--mask-is", "black"], "'black' is not one of 'white', 'alpha'"),
        (["photo.png", "a red apple"], "a red apple cannot be read"),
        (["photo.png", "mask.png", "a", "--prompt", "b"], "two prompts were given"),
        (["photo.png", "photo.png", "a"], "the mask photo.png looks like a picture"),
        (["photo.png", "mask.png", ""], "the prompt is empty"),
        (["photo.png", "mask.png", "a", "--feather", "-2"], "feather=-2"),
        (["photo.png", "mask.png", "a", "--resamples", "0"], "--resamples=0"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(inpaint: Program, arguments: list[str], message: str) -> None:
    done = inpaint(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("unclip: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert sorted(path.name for path in Path().iterdir()) == ["cutout.png", "mask.png", "photo.png"]
