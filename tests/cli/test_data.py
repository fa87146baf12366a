"""`unclip data emoji`: its refusals; the shards themselves are tested with the data part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "tran"], "did you mean 'train'?"),
        (["--image-size", "0"], "image_size=0"),
        (["--image-size", "big"], "'--image-size'"),
    ],
)
def test_wrong_input_is_one_line(unclip: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = unclip("data", "emoji", tmp_path / "shards", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert list(tmp_path.iterdir()) == []
