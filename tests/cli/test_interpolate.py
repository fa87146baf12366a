"""`unclip interpolate`: a strip, an animation or a folder, and wrong inputs in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip.cli.output import parse_out

Program = Callable[..., Any]
FAST = ("--seed", "7", "--steps", "2", "--size", "16")


@pytest.fixture
def interpolate(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip interpolate --model tiny` in a folder with one picture and one text file."""
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("grey.png")
    Path("note.txt").write_text("kept")
    return lambda *arguments: unclip("interpolate", "--model", tiny_folder, *arguments)


def new_files(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {"grey.png", "note.txt"}


def test_a_strip_holds_all_frames_and_says_how_they_were_drawn(interpolate: Program, tmp_path: Path) -> None:
    done = interpolate("a red apple", "grey.png", "--frames", "3", *FAST)
    assert (done.code, done.out) == (0, "a-red-apple-to-grey-7.png\n")
    assert new_files(tmp_path) == {"a-red-apple-to-grey-7.png"}
    with Image.open("a-red-apple-to-grey-7.png") as strip:
        assert strip.size == (3 * 16 + 2 * 2, 16)
        text = dict(strip.text)  # type: ignore[attr-defined]
    settings = json.loads(text["settings"])
    assert (text["seed"], settings["between"], settings["frames"]) == ("7", ["a red apple", "grey.png"], 3)
    assert settings["decoder"]["sampler"] == "ddim"


def test_an_animation_shows_the_frames_of_the_folder(interpolate: Program, tmp_path: Path) -> None:
    command = ("a red apple", "a cat", "--frames", "4", *FAST)
    assert interpolate(*command, "-o", "way.gif").out == "way.gif\n"
    done = interpolate(*command, "-o", "way/", "--json")
    names = [f"way/a-red-apple-to-a-cat-7-{number}.png" for number in range(1, 5)]
    assert json.loads(done.out)["images"] == names
    assert new_files(tmp_path) == {"way.gif", *names}
    with Image.open("way.gif") as animation:
        assert (animation.n_frames, animation.size, animation.info["loop"]) == (4, (16, 16), 0)  # type: ignore[attr-defined]
        comment = json.loads(animation.info["comment"])
    with Image.open(names[0]) as first:
        assert comment == dict(first.text)  # type: ignore[attr-defined]


def test_numbers_sort_by_name() -> None:
    def names(out: str | None, title: str) -> list[str]:
        return [str(next(iter(paths))) for paths in parse_out(out, is_series=True).names([title] * 10, [7] * 10)]

    assert names("way/", "a")[::9] == ["way/a-7-01.png", "way/a-7-10.png"]
    assert names(None, "A b!") == ["a-b-7.png"]
    assert names("x.GIF", "a") == ["x.GIF"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat", "nowhere.png"], "nowhere.png is named like a picture, but there is no such file"),
        (["a cat", "note.txt"], "note.txt is not a picture that can be read"),
        (["a cat", ""], "the prompt is empty"),
        (["a cat", "a dog", "--frames", "1"], "'--frames': Input should be greater than or equal to 2"),
        (
            ["a cat", "a dog", "-o", "way.mp4"],
            "way.mp4: pictures are written as PNG, JPEG, WebP or GIF; use way.png, or a folder",
        ),
        (["a cat", "a dog", "-o", "note.txt/way.gif"], "cannot write note.txt/way.gif"),
        (["a cat"], "Missing argument"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    interpolate: Program, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = interpolate(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert new_files(tmp_path) == set()
