"""`unclip assemble`: what is joined is tested with the pipelines; here are its words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]


def test_it_says_where_each_stage_is_from_and_what_draws(unclip: Program, tiny_folder: Path, tmp_path: Path) -> None:
    parts = [word for part in ("--clip", "--prior", "--decoder", "--upsampler") for word in (part, tiny_folder)]
    done = unclip("assemble", tmp_path / "mine", *parts)
    assert (done.code, done.err) == (0, "")
    *stages, wrote, following = done.out.splitlines()
    names = ("clip", "prior", "decoder", "upsampler_32")
    assert stages == [f"{name} from {tiny_folder / name}.safetensors" for name in names]
    assert wrote.startswith(f"wrote {tmp_path / 'mine'} (")
    assert following == f'next: unclip generate "..." --model {tmp_path / "mine"}'
    record = json.loads(unclip("assemble", tmp_path / "two", *parts, "--storage", "int8", "--json").out)
    assert record["folder"] == str(tmp_path / "two")
    assert unclip("generate", "a cat", "--model", tmp_path / "two", "-o", tmp_path / "cat.png").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to join"),
        (["--decoder", "nowhere"], "there is no model 'nowhere'"),
        (["--storage", "int4", "--decoder", "emoji"], "--storage int4 is not one of"),
        (["--prior", "emoji", "--clip", "TINY"], "the stages disagree on the image embedding: clip 16, prior 192"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    unclip: Program, tiny_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = unclip("assemble", tmp_path / "mine", *(word.replace("TINY", str(tiny_folder)) for word in arguments))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert list(tmp_path.iterdir()) == []
