"""Read the options of tasks from the source of their signatures.

`unclip.pipelines.describe` gives the same, but importing it takes torch and two seconds, which `--help` does not have.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PIPELINES = Path(__file__).parents[1] / "pipelines"
KINDS = {"int": "integer", "float": "number", "bool": "boolean", "str": "text"}
REQUIRED: Any = object()
"""In place of a default where a value is required."""


class TaskOption(NamedTuple):
    """An option of a task."""

    name: str
    kind: str
    help: str
    default: Any
    choices: Sequence[str]
    is_per_stage: bool
    least: float | None


class TaskOptions(NamedTuple):
    """The options of a task by name."""

    own: Mapping[str, TaskOption]
    shared: Mapping[str, TaskOption]
    """Those of `DrawOptions` that the task reads."""
    is_series: bool


@cache
def read_tasks() -> Mapping[str, TaskOptions]:
    """Read the options of every task, by the task's name."""
    files = [PIPELINES / "options.py", *sorted((PIPELINES / "tasks").glob("*.py"))]
    nodes = [node for file in files for node in ast.parse(file.read_bytes()).body]
    aliases = {ast.unparse(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)}
    (draw_options,) = (node for node in nodes if isinstance(node, ast.ClassDef) and node.name == "DrawOptions")
    fields = {
        ast.unparse(node.target): node.annotation for node in draw_options.body if isinstance(node, ast.AnnAssign)
    }
    tasks = {}
    for function in (node for node in nodes if isinstance(node, ast.FunctionDef)):
        for words in (_words(call) for call in function.decorator_list if ast.unparse(call).startswith("task(")):
            is_series, unused = words.get("is_series", False), words.get("unused", ())
            own = {
                name: _read(name, aliases.get(ast.unparse(annotation), annotation), default)
                for name, annotation, default in _parameters(function.args)
            }
            shared = {name: _read(name, annotation, None, is_series) for name, annotation in fields.items()}
            read = {name: option for name, option in shared.items() if name not in unused}
            tasks[function.name] = TaskOptions(own, read if function.args.kwarg else {}, is_series)
    return tasks


def _parameters(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr, Any]]:
    """Yield name, annotation and default of the parameters after the model."""
    parameters, defaults = [*arguments.args, *arguments.kwonlyargs][1:], [*arguments.defaults, *arguments.kw_defaults]
    required = [None] * (len(parameters) - len(defaults))
    for parameter, default in zip(parameters, [*required, *defaults], strict=True):
        assert parameter.annotation is not None
        yield parameter.arg, parameter.annotation, REQUIRED if default is None else ast.literal_eval(default)


def _read(name: str, annotation: ast.expr, default: Any, is_series: bool = False) -> TaskOption:
    """Read `Annotated[type, Option(help, kind, ...)]`."""
    assert isinstance(annotation, ast.Subscript), f"{name} has no `Option`"
    assert isinstance(annotation.slice, ast.Tuple), f"{name} has no `Option`"
    typed, option = annotation.slice.elts
    fields, text = _words(option, "help", "kind"), ast.unparse(typed)
    literal = re.search(r"Literal(\[.*?\])", text)
    choices = ast.literal_eval(literal[1]) if literal else fields.get("choices", ())
    scalars = [KINDS[word] for word in re.findall(r"\w+", text) if word in KINDS]
    return TaskOption(
        name=name,
        kind=fields.get("kind") or ("choice" if choices else scalars[0]),
        help=(is_series and fields.get("in_series")) or fields["help"],
        default=default,
        choices=choices,
        is_per_stage=text.startswith("PerStage"),
        least=fields.get("least"),
    )


def _words(call: ast.expr, *positional: str) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    assert isinstance(call, ast.Call)
    pairs = [*zip(positional, call.args, strict=False), *((str(word.arg), word.value) for word in call.keywords)]
    return {name: ast.literal_eval(value) for name, value in pairs}
