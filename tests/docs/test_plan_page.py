"""What docs/plan.md and docs/recipes.md show is what the commands print and the docstrings say."""

import re
import shlex
from pathlib import Path

import pytest

from unclip.cli.main import run
from unclip.recipes import RECIPES

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"^```console\n(.*?)^```$", (DOCS / "plan.md").read_text(), re.MULTILINE | re.DOTALL)
SHOWN = [shown for block in BLOCKS for shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


@pytest.mark.parametrize(("command", "output"), [pair for pair in SHOWN if pair[1]], ids=lambda text: text[:40])
def test_a_command_prints_what_the_page_shows(command: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, _, pattern = command.partition(" | grep ")
    assert run(shlex.split(words)[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if not pattern or pattern.strip('"') in line] == output.splitlines()


def test_the_table_of_recipes_quotes_their_docstrings() -> None:
    rows = re.findall(
        r"^\| `(\w+/\w+)` \| [\d,]+M \| (.*?) \| (.*?) \|$", (DOCS / "recipes.md").read_text(), re.MULTILINE
    )
    assert [name for name, *_ in rows] == [name for name in RECIPES if not name.startswith("emoji/")]
    for name, planned, what in rows:
        text = RECIPES[name].__doc__ or ""
        assert f"Planned: {planned}." in text
        assert text.startswith(what)
