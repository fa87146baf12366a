"""`unclip embed`: what it says, and how it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from picture_shards import DAMAGED, write_picture_shards
from unclip.data import EmbeddingSet


def test_it_says_what_was_done_and_what_could_not_be_read(unclip: Callable, tiny_folder: Path, tmp_path: Path) -> None:
    write_picture_shards(tmp_path / "pictures")
    command = ["embed", tmp_path / "pictures", "--clip", tiny_folder, "-o", tmp_path / "out", "--workers", "0"]
    first = unclip(*command, "--hidden", "--node", "0/2")
    assert first.code == 0
    assert "shards of other machines are not there yet" in first.out
    second = unclip(*command, "--hidden")
    assert second.code == 0
    assert second.out.splitlines()[0] == "embedded 4 samples of 1 shards"
    assert second.out.splitlines()[1].startswith(f"left out {DAMAGED}: ")
    assert second.out.splitlines()[2:] == [str(tmp_path / "out")]
    assert EmbeddingSet.open(tmp_path / "out").text_dim == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip", "emojy"], "there is no model 'emojy'"),
        (["--node", "1"], "--node '1' cannot be read"),
        (["--node", "4/4"], "node=4/4"),
        (["--batch-size", "0"], "--batch-size=0"),
        (["--ray", "2", "--node", "0/2"], "give one of them"),
        (["--ray", "0"], "num_actors=0"),
    ],
)
def test_wrong_input_is_one_line(
    unclip: Callable, tiny_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_picture_shards(tmp_path / "pictures", num_shards=1)
    done = unclip("embed", tmp_path / "pictures", "--clip", tiny_folder, "-o", tmp_path / "out", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert not (tmp_path / "out").exists()
