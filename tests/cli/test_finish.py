"""`unclip generate --stop-after` and `unclip finish`: the same bytes as without a stop; wrong input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unclip.pipelines import Draft
from unclip.testing import tiny_pipeline

Program = Callable[..., Any]


@pytest.fixture
def finish(generate: Program, unclip: Program, tiny_folder: Path) -> Program:
    """Run `unclip finish --model tiny` where `generate` runs."""
    return lambda *arguments: unclip("finish", *arguments, "--model", tiny_folder)


def test_stopping_twice_gives_the_same_bytes(generate: Program, finish: Program, tmp_path: Path) -> None:
    asked = ["a red apple", "-n", "2", "--seed", "7", "--steps", "decoder=2", "--negative", "a tree"]
    assert generate(*asked, "-o", "whole.png").code == 0
    begun = generate(*asked, "--stop-after", "prior")
    assert (begun.code, begun.out) == (0, "a-red-apple-7.safetensors\n")
    advanced = finish("a-red-apple-7.safetensors", "--stop-after", "decoder", "-o", "small.safetensors", "--json")
    line = json.loads(advanced.out)
    assert (line["draft"], line["seeds"], line["done"]) == ("small.safetensors", [7, 8], ["prior", "decoder"])
    done = finish("small.safetensors", "--batch-size", "1", "-o", "stopped.png")
    assert (done.out, done.err) == ("stopped-1.png\nstopped-2.png\n", "upsampler_32: 4 steps\n")
    for number in (1, 2):
        assert Path(f"stopped-{number}.png").read_bytes() == Path(f"whole-{number}.png").read_bytes()
    assert finish("small.safetensors").out == "a-red-apple-7.png\na-red-apple-8.png\n"


def test_the_best_are_kept(generate: Program) -> None:
    line = json.loads(generate("a cat", "--best-of", "3", "-n", "2", "--seed", "7", "--json").out)
    assert line["images"] == [f"a-cat-{seed}.png" for seed in line["seeds"]]
    assert len(line["settings"]["scores"]) == 2
    assert all(Path(path).exists() for path in line["images"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stop-after", "decodr"], "no stage 'decodr' is to come; did you mean 'decoder'?"),
        (["--stop-after", "prior", "-o", "x.png"], "unfinished pictures are written as x.safetensors"),
        (["--stop-after", "prior", "--best-of", "2"], "--best-of judges pictures"),
        (["--best-of", "1", "-n", "2"], "--best-of=1 pictures are too few to keep 2 of"),
        (["--negative", "a tree", "--guidance", "1"], "--negative needs guidance above 1"),
    ],
)
def test_what_cannot_be_begun_is_one_line(
    generate: Program, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = generate("a cat", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["note.txt"], "note.txt is not a whole safetensors file"),
        (["draft.safetensors", "--stop-after", "prior"], "no stage 'prior' is to come"),
        (["draft.safetensors", "--size", "48x32"], "pictures are 16x16, but 'tiny' makes 24x16, then 48x32"),
        (["draft.safetensors", "-o", "x.bmp"], "pictures are written as PNG"),
    ],
)
def test_what_cannot_be_finished_is_one_line(
    finish: Program, tmp_path: Path, draft: Draft, arguments: list[str], message: str
) -> None:
    (tmp_path / "note.txt").write_text("no draft")
    draft.save(tmp_path / "draft.safetensors")
    done = finish(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft.safetensors", "note.txt"]


@pytest.fixture(scope="module")
def draft() -> Draft:
    """A picture that was stopped after the decoder."""
    return tiny_pipeline().draft("a cat", stop_after="decoder", seed=7)
