"""The Dockerfile, .dockerignore and unit of systemd as plain values, and the options of `unclip serve` from words."""

import fnmatch
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import typer

from unclip.cli.main import app

ROOT = Path(__file__).parents[2]


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: its word, its flags, the rest, and the stage that it stands in."""

    word: str
    flags: list[str]
    rest: str
    stage: str

    @property
    def words(self) -> list[str]:
        """The rest as a list of JSON, or its words."""
        return json.loads(self.rest) if self.rest.startswith("[") else self.rest.split()


def dockerfile() -> list[Instruction]:
    """The instructions in order, lines joined where they go on."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    instructions, stage = [], ""
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        flags = []
        while match := re.match(r"(--[\w-]+=\S+)\s+", rest):
            flags.append(match[1])
            rest = rest[match.end() :]
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        instructions.append(Instruction(word, flags, rest.strip(), stage))
    return instructions


def of_stage(stage: str, word: str) -> list[Instruction]:
    """The instructions of one kind in one stage."""
    return [one for one in dockerfile() if (one.stage, one.word) == (stage, word)]


def is_ignored(path: str, rules: str) -> bool:
    """Whether .dockerignore keeps a path out of a build: its last rule that matches the path or a parent decides."""
    parts = path.split("/")
    ignored = False
    for rule in rules.splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        # After `**/` a name anywhere, else one at the root.
        anywhere, name = pattern.startswith("**/"), pattern.removeprefix("**/")
        assert "/" not in name, f"the rule {rule} has folders, which this reader does not know"
        if any(fnmatch.fnmatchcase(part, name) for part in (parts if anywhere else parts[:1])):
            ignored = not rule.startswith("!")
    return ignored


def unit() -> dict[str, dict[str, list[str]]]:
    """Values by section and name of the unit of systemd; a name may stand several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in (ROOT / "deploy" / "unclip.service").read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            sections[match[1]] = defaultdict(list)
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            list(sections.values())[-1][name].append(value)
    return sections


def serve_options(words: list[str]) -> dict[str, Any]:
    """The values that `unclip serve` has after these words, by the command line itself; an unknown option raises."""
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return command.make_context("serve", list(words)).params


def serve_variables() -> set[str]:
    """The environment variables that options of `unclip serve` are read from."""
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {parameter.envvar for parameter in command.params if parameter.envvar is not None}
