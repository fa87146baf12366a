"""`--background`: on every command that draws, in the files, and refused where a file or a model has no alpha."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unclip.pipelines import UnClip
from unclip.testing import tiny_pipeline

Program = Callable[..., Any]
PROMPT = "a red apple"


@pytest.fixture(scope="session")
def alpha_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "alpha"
    tiny_pipeline(channels=4).save(folder)
    return folder


@pytest.fixture
def draw(unclip: Program, alpha_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run a command with the model of 4 channels in a folder that holds a picture with alpha."""
    monkeypatch.chdir(tmp_path)
    clear = Image.linear_gradient("L").resize((32, 32)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((32, 32)).rotate(90))
    clear.save("in.png")
    Image.linear_gradient("L").resize((32, 32)).point(lambda value: 255 * (value > 99)).save("mask.png")
    return lambda command, *arguments: unclip(command, *arguments, "--model", alpha_folder, "--seed", "7")


COMMANDS = {
    "generate": (PROMPT,),
    "variations": ("in.png",),
    "image-to-image": ("in.png", PROMPT),
    "mix": (f"{PROMPT}=1", "in.png=0.5"),
    "interpolate": (PROMPT, "in.png", "--frames", "2"),
    "edit": ("in.png", "--from", "a cat", "--to", PROMPT),
    "inpaint": ("in.png", "mask.png", PROMPT),
    "outpaint": ("in.png", "--left", "8"),
    "upscale": ("in.png",),
}


@pytest.mark.parametrize("command", [*COMMANDS])
def test_every_command_draws_on_a_background(draw: Program, command: str) -> None:
    for ground, mode in (("transparent", "RGBA"), ("#ffcc00", "RGB")):
        done = draw(command, *COMMANDS[command], "--background", ground, "-o", "out.png")
        assert done.code == 0, done.err
        with Image.open("out.png") as image:
            assert image.mode == ("RGBA" if command in ("inpaint", "outpaint") else mode)
            assert json.loads(image.text["settings"])["background"] == ground  # type: ignore[attr-defined]


def test_metadata_draw_the_same_picture_again(draw: Program, alpha_folder: Path) -> None:
    assert draw("generate", PROMPT, "--background", "10,20,30", "-o", "out.png").code == 0
    with Image.open("out.png") as image:
        text, drawn = dict(image.text), np.asarray(image)  # type: ignore[attr-defined]
    ground = json.loads(text["settings"])["background"]
    assert ground == "#0a141e"
    again = UnClip.load(alpha_folder).text_to_image(text["prompt"], seed=int(text["seed"]), background=ground)
    assert np.array_equal(np.asarray(again[0]), drawn)


def test_a_draft_remembers_its_background(draw: Program, unclip: Program, alpha_folder: Path) -> None:
    asked = (PROMPT, "--background", "transparent")
    assert draw("generate", *asked, "-o", "whole.png").code == 0
    assert draw("generate", *asked, "--stop-after", "decoder", "-o", "d.safetensors").code == 0
    assert unclip("finish", "d.safetensors", "--model", alpha_folder, "-o", "out.png").code == 0
    with Image.open("out.png") as finished, Image.open("whole.png") as whole:
        assert finished.mode == "RGBA"
        assert np.array_equal(np.asarray(finished), np.asarray(whole))
    refused = unclip("finish", "d.safetensors", "--model", alpha_folder, "-o", "out.jpg")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "has no place in a .jpg file" in refused.err
    changed = unclip("finish", "d.safetensors", "--model", alpha_folder, "--background", "gold", "-o", "out.jpg")
    assert changed.code == 0


@pytest.mark.parametrize("arguments", [("-o", "out.jpg"), ("-o", "out.jpeg"), ("--format", "jpg")])
def test_jpeg_has_no_transparency(draw: Program, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = draw("generate", PROMPT, "--background", "transparent", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "file; use .png or .webp, or give a colour." in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "mask.png"]


def test_a_series_in_one_file_keeps_alpha(draw: Program) -> None:
    series = ("interpolate", PROMPT, "a cat", "--frames", "3", "--background", "transparent", "-o")
    assert draw(*series, "row.png").code == 0
    with Image.open("row.png") as row:
        assert (row.mode, row.size) == ("RGBA", (100, 32))
        assert np.asarray(row)[:, 32:34, 3].max() == 0
    refused = draw(*series, "row.gif")
    assert refused.code == 2
    assert "no place in a .gif file" in refused.err


def test_models_without_alpha_refuse_other_backgrounds(generate: Program, tmp_path: Path) -> None:
    done = generate(PROMPT, "--background", "transparent")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "draws opaque ones; leave it out" in done.err
    assert list(tmp_path.iterdir()) == []
    assert generate(PROMPT, "--background", "white").code == 0


def test_what_is_no_colour_is_one_line(draw: Program) -> None:
    done = draw("generate", PROMPT, "--background", "nocolour")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "background='nocolour' is no background; give white, transparent, the name of a colour" in done.err
