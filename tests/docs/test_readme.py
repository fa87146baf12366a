"""Whatever README.md and docs/ show is true: Python blocks run, `unclip` commands exist with the flags shown.

A console block is executed for real, line by line, when the line before it is `<!-- run -->`.
"""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from warm import python

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<run><!-- run -->\n+)?```(?P<kind>python|console)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}


class Block(NamedTuple):
    """A fenced block: where it stands, its code, and whether it is marked to be run."""

    place: str
    kind: str
    code: str
    run: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start('code')) + 1}",
            match["kind"],
            match["code"],
            match["run"] is not None,
        )
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of_kind(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def commands(block: Block) -> list[list[str]]:
    """The words after `unclip` of each line that calls it; a backslash at a line's end joins it with the next."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[2:] for line in lines if re.match(r"\$ (\.venv/bin/)?unclip ", line)]


def unclip(*words: str, cwd: Path | None = None) -> str:
    """Run the installed command; fails with what it printed."""
    command = [*python(), str(Path(sys.executable).with_name("unclip")), *words]
    run = subprocess.run(command, cwd=cwd, env=os.environ | PLAIN, capture_output=True, text=True)
    assert run.returncode == 0, f"unclip {shlex.join(words)}\n{run.stdout}{run.stderr}"
    return run.stdout


@cache
def help_of(*command: str) -> str:
    return unclip(*command, "--help")


def command_of(words: list[str]) -> tuple[str, ...]:
    """The (sub)command that `words` call: `generate`, or `data emoji` when `data` is a group of commands."""
    group = "COMMAND [ARGS]" in help_of(words[0]) or words[:2] == ["evaluate", "memorisation"]
    return tuple(words[: 2 if group else 1])


@pytest.mark.parametrize("block", of_kind("python"), ids=lambda block: block.place)
def test_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.place, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", of_kind("console"), ids=lambda block: block.place)
def test_console_block_is_valid(block: Block) -> None:
    for words in commands(block):
        shown = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_of(*command_of(words))))
        assert shown <= known, f"{block.place}: {shlex.join(words)}"


@pytest.mark.parametrize("block", [b for b in of_kind("console") if b.run], ids=lambda block: block.place)
def test_marked_console_block_runs(block: Block, tmp_path: Path) -> None:
    for words in commands(block):
        unclip(*words, cwd=tmp_path)


def test_make_verbs_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {verb for page in PAGES for verb in re.findall(r"^\$ make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert shown <= verbs


def test_links_lead_somewhere() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert missing == []
