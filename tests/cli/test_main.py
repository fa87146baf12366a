"""The program around the commands: help without torch, version, and the exit codes."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import unclip as package

Program = Callable[..., Any]


def test_help_names_the_commands(unclip: Program) -> None:
    done = unclip()
    assert done.code == 0
    for command in ("generate", "info", "train", "data"):
        assert command in done.out
    assert unclip("--help").out.split() == done.out.split()


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["train", "--help"], ["data", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from unclip.cli.main import run; code = run(sys.argv[1:]); "
        "print(*sorted({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)), file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "\n")
    assert "Usage: unclip" in done.stdout


def test_drawing_imports_no_compiler_and_no_peer() -> None:
    program = (
        "import sys; from unclip.pipelines import UnClip; "
        "heavy = {'torch._dynamo', 'sympy', 'scipy', 'rich', 'transformers', 'diffusers', 'torch.utils.tensorboard'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_version(unclip: Program) -> None:
    assert unclip("--version").out == f"{package.__version__}\n"


def test_an_unknown_command_is_one_line(unclip: Program) -> None:
    done = unclip("generat")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "generat" in done.err
