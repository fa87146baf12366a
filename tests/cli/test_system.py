"""The program among others: streams that are full or missing, encodings, home folders, and what file systems refuse."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unclip.cli.main import run

Program = Callable[..., Any]

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")


def shell(command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell in which `unclip` is the program."""
    function = f'unclip() {{ "{sys.executable}" -W error -m unclip "$@"; }}\n'
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUTF8"} | variables
    return subprocess.run(
        ["bash", "-c", function + command], cwd=cwd, env=environment, capture_output=True, check=False
    )


def drawing(model: Path) -> str:
    return f"unclip generate 'a red apple' --model {model} --seed 7 --steps 1 --size 16"


@needs_full_disk
def test_progress_that_nobody_can_read_costs_no_picture(tiny_folder: Path, tmp_path: Path) -> None:
    done = shell(f"{drawing(tiny_folder)} 2>/dev/full", tmp_path)
    assert (done.returncode, done.stdout) == (0, b"a-red-apple-7.png\n")
    assert (tmp_path / "a-red-apple-7.png").exists()


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_stderr_at_all(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    """As a program without a console has none, and a library that closed it."""
    monkeypatch.chdir(tmp_path)
    broken = None if stream is None else (tmp_path / "stderr").open("w")
    if broken is not None:
        broken.close()
    monkeypatch.setattr(sys, "stderr", broken)
    assert run(["generate", "a cat", "--model", str(tiny_folder), "--steps", "1", "-o", "x.png"]) == 0
    assert run(["generate", "", "--model", str(tiny_folder)]) == 2
    assert (tmp_path / "x.png").exists()


@needs_full_disk
def test_a_full_stdout_is_one_line(tmp_path: Path) -> None:
    done = shell("unclip --version >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"unclip: No space left on device")


@pytest.mark.parametrize("command", ["unclip --version", "unclip generate --help"])
def test_a_closed_pipe_ends_quietly(tmp_path: Path, command: str) -> None:
    # `true` ends at once, and Python starts slowly: the reader is gone when the program writes.
    done = shell(f"({command}; echo $? >code) | true", tmp_path)
    assert (tmp_path / "code").read_text() == "1\n"
    assert done.stderr == b""


def test_a_terminal_without_the_characters(tiny_folder: Path, tmp_path: Path) -> None:
    command = f"unclip generate '猫 Äpfel {'🍎' * 20}' --model {tiny_folder} --seed 7 --steps 1 --size 16"
    done = shell(f"{command} -o x/", tmp_path, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stdout) == (0, b"x/\\u732b-\xe4pfel-7.png\n")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["猫-äpfel-7.png"]
    done = shell("unclip 猫", tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 2
    assert done.stderr.startswith(b"unclip: No such command '\\u732b'")


def test_bytes_beyond_an_ascii_system_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """They are no text there: the prompt is refused, and not drawn as something else."""
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(f"unclip generate 'Äpfel' --model {tiny_folder}", tmp_path, **variables)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"give UTF-8" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_no_text_is_printed_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    done = shell(f"{drawing(tiny_folder)} -o $'n\\xff.png'", tmp_path)
    assert (done.returncode, done.stdout) == (0, b"n\xff.png\n")
    assert os.listdir(os.fsencode(tmp_path)) == [b"n\xff.png"]


def test_home_folders_behind_an_equals_sign(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").symlink_to(tiny_folder)
    for number, option in enumerate(("--out=~/x", "-o", "--model=~/m")):
        done = unclip("generate", "~ a cat/~x", "--seed", str(number), "--steps", "1", "--model", tiny_folder, option,
                      *(["~/y/"] if option == "-o" else []))  # fmt: skip
        assert done.code == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert names == {"x/a-cat-x-0.png", "y/a-cat-x-1.png", "a-cat-x-2.png"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "LONG", "-o", "x"],
        ["info", "LONG/x"],
        ["basis", "LONG"],
        ["data", "check", "LONG"],
        ["data", "stats", "~nosuchuser/x"],
        ["data", "emoji", "LONG"],
        ["embed", "LONG", "--clip", "emoji", "-o", "x"],
        ["train", "emoji/decoder", "--smoke", "--set", "data.folder=~nosuchuser/x", "-o", "x"],
        ["train", "quickstart", "LONG"],
        ["evaluate", "--images", "LONG"],
        ["convert", "emoji", "LONG"],
        ["ema", "LONG", "--sigma-rel", "0.1", "-o", "x"],
        ["variations", "LONG"],
        ["interpolate", "LONG.png", "a dog"],
        ["probe", "loop/x.png"],
        ["finish", "loop/x"],
        ["finish", "LONG"],
        ["inpaint", "folder"],
        ["embed", "loop", "--clip", "loop", "-o", "loop/x"],
    ],
)
def test_what_the_file_system_refuses_is_one_line(
    unclip: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    done = unclip(*(argument.replace("LONG", "n" * 300) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert sorted(os.listdir()) == ["folder", "loop"]


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root, which may become somebody else")
def test_somebody_without_home_folder_and_permissions(tmp_path: Path) -> None:
    """As in containers that run as any number: no entry in passwd, no HOME, and folders that are closed."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = (
        "import os, sys; from unclip.cli.main import run; from unclip import pipelines; "
        "os.environ.pop('HOME', None); os.chdir('/'); os.setgroups([]); os.setuid(54321); "
        f"sys.exit(sum(run(words.split()) for words in ('generate x -o {closed}/x.png', 'info ~/x', "
        f"'generate x --model {closed}/y', 'generate x -o --format=~/z')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 8, done.stderr
    assert len(done.stderr.splitlines()) == 4
    assert "Traceback" not in done.stderr
