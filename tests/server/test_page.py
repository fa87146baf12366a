"""The client scripts of docs/serve.md do what the page says, with the model that ships."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from live_server import running
from unclip.pipelines import UnClip

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
SCRIPTS = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def emoji() -> UnClip:
    return UnClip.load("emoji")


@pytest.fixture(scope="module")
def emoji_address(emoji: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(emoji, tmp_path_factory.mktemp("page"), api_keys=("secret",)) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(script: str, address: str) -> None:
    exec(compile(script.replace("http://127.0.0.1:8000", address), "docs/serve.md", "exec"), {})


def test_the_first_script_draws_what_the_library_draws(emoji: UnClip, emoji_address: str, folder: Path) -> None:
    run(SCRIPTS[0], emoji_address)
    drawn = emoji.text_to_image("a red apple, noto style", num_images=2, seed=7)
    for number, image in enumerate(drawn):
        assert Image.open(folder / f"apple-{number}.png").tobytes() == image.tobytes()


def test_the_second_script_prints_events(emoji_address: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(SCRIPTS[1], emoji_address)
    kinds = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]


def test_the_third_script_makes_an_animation(emoji_address: str, folder: Path) -> None:
    run(SCRIPTS[2], emoji_address)
    with Image.open(folder / "moon.gif") as animation:
        assert (animation.format, animation.n_frames) == ("GIF", 3)
    assert len(SCRIPTS) == 3
