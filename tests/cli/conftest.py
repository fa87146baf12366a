"""A run of the program inside this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from unclip.cli.main import run


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Program = Callable[..., Finished]


@pytest.fixture
def unclip(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run `unclip` with arguments."""

    def program(*arguments: str | Path) -> Finished:
        code = run([str(argument) for argument in arguments])
        return Finished(code, *capsys.readouterr())

    return program


@pytest.fixture
def generate(unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `unclip generate --model tiny` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def program(*arguments: str | Path) -> Finished:
        return unclip("generate", "--model", tiny_folder, *arguments)

    return program
