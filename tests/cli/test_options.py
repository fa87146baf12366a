"""The options of every command: those of a golden table, and of drawing commands those that tasks describe."""

import ast
import inspect
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import unclip
from command_options import options_of_commands
from unclip.cli import tasks as commands
from unclip.cli.draw import NOT_TYPED
from unclip.cli.options import RENAMED, flag_of
from unclip.cli.signatures import REQUIRED, read_tasks
from unclip.diffusion import SAMPLERS
from unclip.pipelines.options import TASKS, describe

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "options.json").read_text(encoding="utf-8"))
# The tasks whose options a command has.
TASKS_OF = {
    "generate": ("text_to_image", "draft", "unconditional"),
    "variations": ("image_variations",),
    "image-to-image": ("image_to_image",),
    "mix": ("mix",),
    "interpolate": ("interpolate",),
    "edit": ("text_diff",),
    "inpaint": ("inpaint",),
    "outpaint": ("outpaint",),
    "upscale": ("upscale",),
    "probe": ("probe",),
    "finish": ("finish", "advance"),
}
# What is of the command line alone: files, the model, and which of two tasks of `generate` is run.
OF_THE_COMMAND_LINE = {"--model", "--out", "--format", "--device", "--json", "--safety", "--unconditional"}
# Options of tasks that a command gives other names.
NAMES = {"text_diff": {"source": "--from", "target": "--to"}, "probe": {"num_components": "--components"}}
ARGUMENTS = {"image": "images", "text": "prompt", "prompt": "prompts"}


def by_name(options: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(option.get("argument") or option["option"]): option for option in options}


def arguments(options: list[dict[str, Any]]) -> list[str]:
    return [option["argument"] for option in options if "argument" in option]


@pytest.mark.parametrize("command", [*GOLDEN])
def test_a_command_has_the_options_of_the_table(command: str) -> None:
    """Users rely on them: run tests/helpers/command_options.py to change the table, and say so in the changelog."""
    now = json.loads(json.dumps(options_of_commands()[command]))
    assert by_name(now) == by_name(GOLDEN[command])
    arguments = [
        [option["argument"] for option in options if "argument" in option] for options in (now, GOLDEN[command])
    ]
    assert arguments[0] == arguments[1]


def test_the_table_has_every_command() -> None:
    assert options_of_commands().keys() == GOLDEN.keys()


@pytest.mark.parametrize("command", [*TASKS_OF])
def test_every_option_that_draws_comes_from_a_description(command: str) -> None:
    described = {
        NAMES.get(task, {}).get(option.name, flag_of(option.name)): option
        for task in TASKS_OF[command]
        for option in describe(task)
    }
    names = {option.name for option in described.values()}
    for option in options_of_commands()[command]:
        if "argument" in option:
            assert option["argument"] in names or ARGUMENTS[option["argument"]] in names
            continue
        (name,) = (name for name in option["option"] if name.startswith("--"))
        if name in OF_THE_COMMAND_LINE or option.get("hidden"):
            continue
        about = described[name]
        is_required = about.default is inspect.Parameter.empty and command not in ("generate", "finish")
        assert option.get("required", False) is is_required
        assert is_required or option["default"] == (None if about.default is inspect.Parameter.empty else about.default)
        if name != "--prompt":
            assert option["help"] == about.help.replace("`eta`", "--eta")


@pytest.mark.parametrize("name", [*TASKS])
def test_the_source_says_what_the_functions_say(name: str) -> None:
    read = read_tasks()[name]
    options = {**read.own, **read.shared}
    assert [*options] == [option.name for option in describe(name)]
    assert read.is_series == TASKS[name].is_series
    for option in describe(name):
        of_source = options[option.name]
        assert (of_source.kind, of_source.help) == (option.kind, option.help)
        assert (of_source.is_per_stage, of_source.least) == (option.is_per_stage, option.least)
        assert (
            of_source.default is REQUIRED
            if option.default is inspect.Parameter.empty
            else option.default == of_source.default
        )
        assert option.name in NOT_TYPED or tuple(of_source.choices) == option.choices


def test_the_help_names_every_sampler() -> None:
    (option,) = (option for option in describe("text_to_image") if option.name == "sampler")
    assert sorted(option.choices) == sorted(SAMPLERS)
    assert option.help.partition(";")[0].replace(" or ", ", ").split(", ") == list(option.choices)


def test_every_task_has_commands_that_read_it() -> None:
    in_commands = {task for tasks in TASKS_OF.values() for task in tasks}
    assert in_commands | {"decode", "embed", "fit_basis"} == TASKS.keys()
    assert all(hasattr(commands, command.replace("-", "_")) for command in TASKS_OF)


def test_help_texts_stand_once_in_the_source() -> None:
    texts = Counter(
        node.value
        for path in Path(unclip.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    helps = {option.help for name in TASKS for option in describe(name)}
    assert {text: texts[text] for text in helps} == dict.fromkeys(helps, 1)


def test_renamed_options_are_options_of_tasks() -> None:
    names = {option.name for name in TASKS for option in describe(name)}
    assert RENAMED.keys() - {"num_workers"} <= names
