"""The program around the commands: help without torch, version, and the exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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
        "import sys; from unclip import UnClip; pipe = UnClip.load('emoji', device='cpu'); "
        "pipe.text_to_image('a cat', image_size=128, seed=0, num_steps={'prior': 1, 'decoder': 1}); "
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


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["generate"], "generate"),
        (["upscale"], "upscale"),
        (["data", "check"], "data check"),
        (["info", "--x"], "info"),
    ],
)
def test_a_wrong_use_points_to_the_help_of_its_command(unclip: Program, arguments: list[str], command: str) -> None:
    done = unclip(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"(see unclip {command} --help)" in done.err


def test_messages_call_settings_as_the_options_are_called(unclip: Program, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("word,link\na,b\n")
    done = unclip("data", "check", tmp_path / "table.csv")
    assert done.err.endswith("name the one of images by --image-column.\n")
    done = unclip("plan", "emoji/decoder", "--set", "seed=-1")
    assert "--" not in done.err  # a setting of a recipe is no option of the command


def test_the_shipped_model_says_what_it_knows_and_which_words_it_does_not(unclip: Program, tmp_path: Path) -> None:
    fast = ("--steps", "1", "--size", "128", "--json", "-o", tmp_path / "x.png")
    done = unclip("generate", "a skyscraper, and a red circle", *fast)
    assert done.out.count("\n") == 1
    note = done.err.splitlines()[-1]
    assert note.startswith("note: the model emoji knows emoji alone")
    assert note.endswith("its captions lack: skyscraper")
    assert "captions lack" not in unclip("generate", "a red circle", *fast).err
    assert "learned emoji alone" in " ".join(unclip("generate", "--help").out.split())
