"""Every option of every command as plain values, for the golden table in tests/golden/options.json.

`python tests/helpers/command_options.py` prints the table of the commands as they are.
"""

import inspect
import json
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import typer

from unclip.cli.main import app

Record = dict[str, Any]


def options_of_commands() -> dict[str, list[Record]]:
    """By command, its arguments and options in order."""
    return {name: _options(command) for name, command in _commands(app, "")}


def as_json(table: dict[str, list[Record]]) -> str:
    """One option a line."""
    blocks = []
    for name, options in table.items():
        lines = ",\n".join(f"  {json.dumps(option)}" for option in options)
        blocks.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _commands(group: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__.replace("_", "-")), command.callback
    for nested in group.registered_groups:
        assert nested.typer_instance is not None
        yield from _commands(nested.typer_instance, f"{prefix}{nested.name} ")


def _options(command: Callable[..., Any]) -> list[Record]:
    return [_option(parameter) for parameter in inspect.signature(command).parameters.values()]


def _option(parameter: inspect.Parameter) -> Record:
    annotation, info = get_args(parameter.annotation)
    is_argument = isinstance(info, typer.models.ArgumentInfo)
    # typer takes the first name of an annotation for a default until it builds the command.
    flags = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
    record: Record = {"argument": parameter.name} if is_argument else {}
    if not is_argument:
        record["option"] = sorted(flags) or [f"--{parameter.name.replace('_', '-')}"]
    record |= _type(annotation)
    is_required = parameter.default is inspect.Parameter.empty
    record |= {"required": True} if is_required else {"default": parameter.default}
    record |= {name: getattr(info, name) for name in ("min", "max", "metavar") if getattr(info, name) is not None}
    record |= {"hidden": True} if info.hidden else {}
    return record | {"help": info.help}


def _type(annotation: Any) -> Record:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is Literal:
        return {"type": "choice", "choices": list(get_args(annotation))}
    return {"type": annotation.__name__ if get_origin(annotation) is None else str(annotation)}


if __name__ == "__main__":
    print(as_json(options_of_commands()), end="")
