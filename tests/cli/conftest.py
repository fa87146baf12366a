"""The tiny model's folder, and a run of the program inside this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from unclip.cli.main import run
from unclip.testing import tiny_model


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Program = Callable[..., Finished]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


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
