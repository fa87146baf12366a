"""`unclip data …`: what it says, writes and refuses; the work itself is tested with the data part."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pictures import encoded, picture
from shard_files import write_tar
from unclip.cli.data import check, num_workers, prepare
from unclip.data import CheckConfig, CheckReport, PrepareConfig, Source, load_shards
from unclip.data.sources.base import Content

Program = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "tran"], "did you mean 'train'?"),
        (["--image-size", "0"], "--image-size=0"),
        (["--split", "test", "--compositions", "3"], "are of the test split, or too few to compose"),
        (["--compositions", "-3"], "compositions=-3 is negative"),
        (["--image-size", "big"], "'--image-size'"),
    ],
)
def test_wrong_input_is_one_line(unclip: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = unclip("data", "emoji", tmp_path / "shards", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three pictures with a caption each."""
    (tmp_path / "album").mkdir()
    for seed in range(3):
        picture(seed).save(tmp_path / "album" / f"{seed}.png")
        (tmp_path / "album" / f"{seed}.txt").write_text(f"picture {seed}")
    return tmp_path / "album"


def test_prepare_says_what_it_found_and_what_it_wrote(unclip: Program, album: Path, tmp_path: Path) -> None:
    picture(0, 10, 10).save(album / "small.png")
    words = ("--image-size", "32", "--format", "webp", "--crop", "pad")
    done = unclip("data", "prepare", album, tmp_path / "out", *words)
    assert (done.code, done.out) == (0, f"{tmp_path / 'out'}: 4 samples, 1 without a caption in 1 shards\n")
    assert done.err == f"{album}: 4 pictures with .txt captions; 1 without a caption\nprepare: 4 pictures\n"
    assert sorted(load_shards(tmp_path / "out", 32).keys) == ["0", "1", "2", "small"]


def test_prepare_names_where_the_skipped_are(unclip: Program, album: Path, tmp_path: Path) -> None:
    (album / "0.png").write_bytes(b"")
    out = tmp_path / "out"
    done = unclip("data", "prepare", album, out, "--image-size", "32", "--json")
    written = json.loads(done.out)
    assert (written["num_written"], written["num_skipped"]) == (2, 1)
    assert done.out.count("\n") == 1
    again = unclip("data", "prepare", album, tmp_path / "b", "--image-size", "32")
    assert again.out.endswith(f"in 1 shards; 1 skipped, see {tmp_path / 'b' / 'skipped.jsonl'}\n")


def test_check_ends_with_0_or_1(unclip: Program, album: Path, tmp_path: Path) -> None:
    done = unclip("data", "check", album)
    assert (done.code, done.out) == (0, "0 of 3 samples have a problem\n")
    (album / "0.png").write_bytes(b"")
    done = unclip("data", "check", album, "-o", tmp_path / "report.json")
    told = "0.png: unreadable (not a picture that can be read)\n1 of 3 samples have a problem: 1 unreadable\n"
    assert (done.code, done.out) == (1, told)
    written = CheckReport.model_validate_json((tmp_path / "report.json").read_text())
    assert [(finding.name, finding.problem) for finding in written.findings] == [("0.png", "unreadable")]
    assert unclip("data", "check", album, "--max-bad", "0.34").code == 0
    as_json = unclip("data", "check", album, "--json")
    assert (as_json.code, CheckReport.model_validate_json(as_json.out)) == (1, written)


def test_check_asks_a_judge_by_name(unclip: Program, album: Path) -> None:
    words = ("--nsfw", "pictures:darkness", "--nsfw-threshold", "0")
    done = unclip("data", "check", album, *words)
    assert (done.code, done.out.count(": nsfw (score ")) == (1, 3)


def test_stats_tell_numbers(unclip: Program, album: Path) -> None:
    done = unclip("data", "stats", album)
    lines = {line[:16].strip(): line[16:] for line in done.out.splitlines()}
    assert done.code == 0
    assert lines["shorter side"] == "64 to 128: 3"
    assert lines["captions"] == "3, 3 different; 0 pictures have none"
    assert lines["words"] == "2 to 2 a caption, median 2"
    assert lines["frequent words"] == "picture 3, 0 1, 1 1, 2 1"
    counted = json.loads(unclip("data", "stats", album, "--json").out)
    assert (counted["num_samples"], counted["captions"]["num_distinct"]) == (3, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "album", "out", "--image-size", "32", "--crop", "centre"], "crop: "),
        (["prepare", "album", "out", "--image-size", "32", "--format", "gif"], "form.suffix: "),
        (["prepare", "album", "album", "--image-size", "32"], "exists already"),
        (["prepare", "album", "out"], "'--image-size'"),
        (["check", "albun"], "there is no albun"),
        (["check", "album", "--captions", "folder"], "did you mean 'folders'?"),
        (["check", "album", "--max-bad", "2"], "--max-bad 2.0 is no share"),
        (["check", "album", "--nsfw", "pictures"], "write module:function"),
        (["check", "album", "--nsfw", "nowhere:judge"], "No module named 'nowhere'"),
        (["stats", "album", "--captions", "table"], "holds no table"),
    ],
)
def test_wrong_words_end_with_2(
    unclip: Program, album: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(album.parent)
    done = unclip("data", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
    assert [path.name for path in album.parent.iterdir()] == ["album"]


def test_processes_are_started_where_they_are_worth_it() -> None:
    small, large = (
        Source(
            description="",
            names=["x"] * count,
            keys=["x"] * count,
            num_uncaptioned=0,
            read=lambda _: Content(b"", (), {}),
        )
        for count in (1999, 2000)
    )
    assert (num_workers(None, small), num_workers(3, small), num_workers(1, large)) == (1, 3, 1)
    assert num_workers(None, large) == min(os.cpu_count() or 1, 8)


def test_options_default_to_the_settings_of_the_data_part() -> None:
    typed = {name: option.default for name, option in inspect.signature(check).parameters.items()}
    assert {name: typed[name] for name in CheckConfig.model_fields} == CheckConfig().model_dump()
    typed = {name: option.default for name, option in inspect.signature(prepare).parameters.items()}
    config = PrepareConfig(image_size=1)
    names = ("crop", "allow_upscale", "samples_per_shard", "shuffle")
    assert {name: typed[name] for name in names} == {name: getattr(config, name) for name in names}
    assert (typed["form"], typed["quality"]) == (config.form.suffix, config.form.quality)


def test_shards_without_captions_are_said_first_and_their_field_can_be_named(unclip: Program, tmp_path: Path) -> None:
    for key in ("a", "b"):
        (tmp_path / f"{key}.png").write_bytes(encoded(picture(ord(key))))
    files = {f"{key}.png": (tmp_path / f"{key}.png").read_bytes() for key in "ab"}
    write_tar(tmp_path / "set" / "0.tar", {**files, "a.json": b'{"note": "a cat"}', "b.json": b'{"note": "a dog"}'})
    done = unclip("data", "check", tmp_path / "set")
    first = f"{tmp_path}/set: 1 shards with 2 samples; one of note may be named as caption_column; "
    assert done.err.splitlines()[0] == f"{first}2 without a caption"
    assert "no sample has a caption" in done.out
    done = unclip("data", "prepare", tmp_path / "set", tmp_path / "out", "--image-size", 32, "--caption-column", "note")
    assert done.err.splitlines()[0] == f"{tmp_path}/set: 1 shards with 2 samples, captions from 'note'"
    assert {tuple(texts) for texts in load_shards(tmp_path / "out", 32).captions} == {("a cat",), ("a dog",)}


def test_what_is_refused_leaves_nothing_and_names_options_as_they_are_typed(
    unclip: Program, album: Path, tmp_path: Path
) -> None:
    (album / "x.csv").write_text("pic,words\n0.png,a cat\n")
    before = sorted(tmp_path.rglob("*"))
    for arguments, message in (
        (["check", album, "--captions", "table"], "--image-column"),
        (["check", album, "--captions", "table", "--image-column", "pic"], "--caption-column"),
        (["check", album, "--captions", "text"], "--captions"),
        (["check", album, "--captions", "txt", "-o", tmp_path], "cannot write"),
        (["check", album, "--captions", "txt", "--workers", 0], "--workers 0"),
        (["stats", album, "--captions", "txt", "--image-column", "x"], "--image-column"),
        (["prepare", album, tmp_path / "new" / "out", "--image-size", 999, "--captions", "txt"], "smaller than 999"),
        (["stats", album / "0.png"], "is one picture; give its folder"),
    ):
        done = unclip("data", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert message in done.err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before
