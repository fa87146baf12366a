"""A run of the program inside this process, and an evaluation for those that read one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from unclip.cli.main import run
from unclip.evaluate import Evaluation, Figure, Point
from unclip.machine import describe_machine


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


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    points = tuple(
        Point(
            label=f"guidance {fid}",
            settings={"image_size": 32, "decoder": {"num_steps": 7}},
            figures=tuple(
                Figure(name=name, title=name, value=value, num_images=8)
                for name, value in {"fid": fid, "clip_score": score}.items()
            ),
        )
        for fid, score in ((14.0, 31.0), (12.5, 30.25))
    )
    whole = Evaluation(
        subject="tiny", reference="somewhere", image_size=16, num_images=8, num_reference=8, seed=0, features={},
        points=points, machine=describe_machine(), version="0",
    )  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(whole.model_dump_json())
    return path
