"""Files of pictures: their names, what they replace, their formats, and pipes in place of files."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from unclip.cli.output import parse_out, save_images
from unclip.errors import InputError
from unclip.files import slug
from unclip.pipelines import Draft, Result
from unclip.testing import tiny_pipeline

Program = Callable[..., Any]

PROMPT = "a red apple"
FAST = ("--seed", "7", "--steps", "1", "--size", "16")


def result_of(picture: Image.Image, prompt: str) -> Result:
    return Result(images=[picture], prompts=[prompt], seeds=[7], image_embeddings=None, settings={}, cut=[""])


def first_names(out: str | None, titles: list[str], seeds: list[int], *, is_series: bool = False) -> list[str]:
    return [str(next(iter(paths))) for paths in parse_out(out, is_series=is_series).names(titles, seeds)]


def metadata_of(path: Path | str) -> dict[str, str]:
    """What a picture says about itself, in any format."""
    with Image.open(path) as image:
        if path_is_png := Path(path).suffix == ".png":
            return dict(image.text)  # type: ignore[attr-defined]
        assert not path_is_png
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment.startswith(b"ASCII\0\0\0")
    found: dict[str, str] = json.loads(comment[8:])
    return found


def test_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.5").mkdir()
    cases = {
        (None, 1): ["a-red-apple-7.png"],
        ("x.png", 1): ["x.png"],
        ("x.PNG", 2): ["x-1.PNG", "x-2.PNG"],
        ("x.webp", 2): ["x-1.webp", "x-2.webp"],
        ("new", 1): ["new/a-red-apple-7.png"],
        ("new.d/", 1): ["new.d/a-red-apple-7.png"],
        ("v1.5", 2): ["v1.5/a-red-apple-7.png", "v1.5/a-red-apple-8.png"],
    }
    for (out, count), expected in cases.items():
        assert first_names(out, ["A red apple!"] * count, list(range(7, 7 + count))) == expected
    assert first_names(None, ["../../etc/passwd"], [7]) == ["etc-passwd-7.png"]
    assert first_names("./", ["way"] * 2, [7, 7], is_series=True) == ["way-7-1.png", "way-7-2.png"]
    assert first_names(None, ["way"] * 2, [7, 7], is_series=True) == ["way-7.png"]
    with pytest.raises(InputError, match=r"use x\.png"):
        parse_out("x.tiff")


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("🍎", "red-apple"),
        ("❤️‍🔥!", "heavy-black-heart-fire-exclamation-mark"),
        ("Ein roter Äpfel 🍎", "ein-roter-äpfel"),
        ("\udcff\ud83d", "image"),
        ("猫" * 50, "猫" * 40),
    ],
)
def test_words_of_a_title(title: str, expected: str) -> None:
    assert slug(title) == expected


def test_nothing_is_replaced_that_was_not_named(generate: Program, tmp_path: Path) -> None:
    long = "a red apple and a blue heart and a green tree"
    for prompt in (PROMPT, PROMPT, "🍎", "🍎", f"{long} in the sun", f"{long} at night"):
        assert generate(prompt, *FAST).code == 0
    names = ["a-red-apple-7", "red-apple-7", "a-red-apple-and-a-blue-heart-and-a-green-7"]
    assert {path.stem for path in tmp_path.iterdir()} == {name + end for name in names for end in ("", "-2")}
    assert metadata_of("a-red-apple-and-a-blue-heart-and-a-green-7-2.png")["prompt"] == f"{long} at night"

    first = generate(PROMPT, *FAST, "-n", "2", "-o", "x.png").out.split()
    second = generate(PROMPT, *FAST, "-n", "2", "-o", "x.png").out.split()
    assert (first, second) == (["x-1.png", "x-2.png"], ["x-3.png", "x-4.png"])
    Path("named.png").write_text("to be replaced")
    assert generate(PROMPT, *FAST, "-o", "named.png").out == "named.png\n"
    assert metadata_of("named.png")["seed"] == "7"


def test_drafts_are_not_replaced_either(generate: Program) -> None:
    names = [generate(PROMPT, *FAST, "--stop-after", "prior").out.strip() for _ in range(2)]
    assert names == ["a-red-apple-7.safetensors", "a-red-apple-7-2.safetensors"]
    assert Draft.load(names[0]).prompts == (PROMPT,)


def test_a_draft_of_several_prompts_names_each_picture_by_its_own(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draft = tiny_pipeline().draft(["a cat", "🍎", "a cat"], 2, stop_after="decoder", seed=7)
    draft.save("draft.safetensors")
    done = unclip("finish", "draft.safetensors", "--model", tiny_folder)
    names = ["a-cat-7", "a-cat-8", "red-apple-7", "red-apple-8", "a-cat-7-2", "a-cat-8-2"]
    assert (done.code, done.out.split()) == (0, [f"{name}.png" for name in names])
    assert metadata_of("red-apple-8.png")["prompt"] == "🍎"


@pytest.mark.parametrize("name", ["x.jpg", "x.jpeg", "x.webp", "x.JPG", "x.png"])
def test_every_format_says_how_to_draw_it_again(generate: Program, name: str) -> None:
    assert generate("ein Äpfel 🍎", *FAST, "-o", name).code == 0
    found = metadata_of(name if name != "x.JPG" else "x.JPG")
    assert found.keys() == {"prompt", "seed", "model", "version", "settings"}
    assert (found["prompt"], found["seed"], found["model"]) == ("ein Äpfel 🍎", "7", "tiny")
    assert json.loads(found["settings"])["decoder"]["num_steps"] == 1
    with Image.open(name) as image:
        assert image.size == (16, 16)


def test_a_folder_takes_the_format_that_is_asked_for(generate: Program) -> None:
    done = generate(PROMPT, *FAST, "-n", "2", "-o", "new/", "--format", "webp")
    assert done.out.split() == ["new/a-red-apple-7.webp", "new/a-red-apple-8.webp"]
    with Image.open("new/a-red-apple-8.webp") as image:
        assert image.format == "WEBP"


def test_a_row_of_a_series_in_any_format(unclip: Program, tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("way.jpg", "way.webp"):
        command = ("interpolate", "a cat", "a dog", "--frames", "3", "--model", tiny_folder, *FAST)
        assert unclip(*command, "-o", tmp_path / name).code == 0
        with Image.open(tmp_path / name) as image:
            assert image.size == (3 * 16 + 2 * 2, 16)


def test_what_webp_has_no_room_for_is_a_png_and_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_text("kept")
    target = parse_out(str(tmp_path / "x.webp"))
    paths = save_images(target, ["x"], result_of(Image.new("RGB", (17_000, 2)), "x"))
    assert paths == [tmp_path / "x-2.png"]
    assert (tmp_path / "x.png").read_text() == "kept"
    assert "at most 16383 pixels" in capsys.readouterr().err


def test_metadata_that_jpeg_has_no_room_for_is_cut(tmp_path: Path) -> None:
    save_images(parse_out(str(tmp_path / "x.jpg")), ["x"], result_of(Image.new("RGB", (8, 8)), "🍎" * 50_000))
    found = metadata_of(tmp_path / "x.jpg")
    assert found["settings"] == "{}"
    assert found["prompt"].startswith("🍎🍎")


class Pipe(io.TextIOWrapper):
    """A text stream around bytes, such as stdout and stdin are."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")

    def bytes(self) -> bytes:
        """All that was written."""
        content = self.buffer
        assert isinstance(content, io.BytesIO)
        return content.getvalue()


@pytest.mark.parametrize(("form", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_goes_to_stdout_alone(
    generate: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    assert generate(PROMPT, *FAST, "-o", "-", "--format", form).code == 0
    with Image.open(io.BytesIO(pipe.bytes())) as image:
        assert (image.format, image.size) == (kind, (16, 16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "-", "-n", "2"], "-o - writes one picture, but 2 are asked for"),
        (["-o", "-", "--json"], "-o - and --json both write to stdout"),
        (["-o", "-", "--stop-after", "prior"], "-o - writes pictures, and these are unfinished"),
    ],
)
def test_what_stdout_does_not_take(generate: Program, arguments: list[str], message: str) -> None:
    done = generate(PROMPT, *FAST, *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def png() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((16, 16)).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "command",
    [
        ["variations", "-", "a dog"],
        ["image-to-image", "-", "--prompt", "a dog"],
        ["edit", "-", "--from", "a cat", "--to", "a dog"],
        ["interpolate", "-", "a dog", "--frames", "2"],
        ["mix", "-", "a dog=0.6"],
        ["outpaint", "-", "--right", "4", "--prompt", "a dog"],
        ["upscale", "-"],
    ],
)
def test_a_picture_comes_from_stdin(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(png())
    sampler = [] if command[0] == "edit" else ["--sampler", "ddim"]
    options = ["--steps", "1", "--seed", "7", "--model", str(tiny_folder), *sampler]
    options += [] if command[0] == "upscale" else ["--size", "16"]
    named = ["x.png" if argument == "-" else argument for argument in command]
    assert unclip(*named, *options, "-o", "file.png").code == 0
    monkeypatch.setattr(sys, "stdin", Pipe(png()))
    done = unclip(*command, *options, "-o", "pipe.png")
    assert (done.code, done.out) == (0, "pipe.png\n")
    with Image.open("file.png") as file, Image.open("pipe.png") as pipe:
        assert pipe.tobytes() == file.tobytes()


def test_stdin_is_a_mask_too_but_not_both(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.png").write_bytes(png())
    mask = io.BytesIO()
    Image.linear_gradient("L").point(lambda grey: 255 * (grey > 127)).resize((16, 16), 0).save(mask, format="PNG")
    monkeypatch.setattr(sys, "stdin", Pipe(mask.getvalue()))
    options = [*FAST, "--model", str(tiny_folder), "-o", str(tmp_path / "y.png")]
    assert unclip("inpaint", tmp_path / "x.png", "-", *options).code == 0
    done = unclip("inpaint", "-", "-", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "- was given twice" in done.err


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:60]])
def test_what_is_no_picture_on_stdin_is_one_line(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Pipe(content))
    done = unclip("variations", "-", "--model", tiny_folder)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert os.listdir() == []
