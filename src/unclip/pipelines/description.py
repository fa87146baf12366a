"""Describe tasks once: annotations of their signatures say what each option means and which values it takes.

Whatever offers tasks to people makes its options, request models and widgets from `describe`. The command line reads
the same annotations from the source, so that help needs no torch: their arguments and the defaults are literals.
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.options import DrawOptions, Kind
from unclip.pipelines.settings import check_count

P = ParamSpec("P")
R = TypeVar("R")

KINDS: Mapping[Any, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """An option of a task: name, default, and all that `Option` and the type say."""

    name: str
    kind: Kind
    help: str
    default: Any = inspect.Parameter.empty
    """`inspect.Parameter.empty` where a value is required."""
    choices: tuple[str, ...] = ()
    takes_several: bool = False
    """Whether a sequence of values is allowed too."""
    is_per_stage: bool = False
    """Whether a mapping from stages to values is allowed too."""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    meaning: str = ""

    def check(self, value: Any) -> None:
        """Raise `InputError` for a number out of bounds and for a choice that there is not."""
        if self.kind not in ("integer", "number", "choice") or (value is None and self.default is None):
            return
        if self.takes_several and isinstance(value, list | tuple):
            if not value:
                raise InputError(f"{self.name} is empty; give at least one {self.kind}.")
            for one in value:
                self.check(one)
        elif self.kind == "choice" and value not in self.choices:
            raise InputError(f"there is no {self.name} {value!r}; {did_you_mean(str(value), self.choices)}")
        elif self.kind == "integer" and self.least is not None:
            check_count(self.name, value, least=int(self.least))
        elif self.kind == "number":
            self._check_number(value)

    def _check_number(self, value: Any) -> None:
        low, high = self.above if self.least is None else self.least, self.most
        assert low is not None, f"{self.name} has no lower bound"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (value > low or value == self.least) and (high is None or value <= high):
            return
        start = f"above {low:g} and up" if self.least is None else f"from {low:g}"
        end = f" to {high:g}" if high is not None else ""
        meaning = f": {self.meaning}" if self.meaning else ""
        raise InputError(f"{self.name}={value!r} is not possible; give a number {start}{end}{meaning}.")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A function that draws or embeds, and its options."""

    function: Callable[..., Any]
    is_series: bool
    """Whether its pictures belong together and have one seed."""
    options: tuple[Described, ...]
    """Its own options, then those of `DrawOptions` that it reads."""


TASKS: dict[str, Task] = {}
"""All tasks by the name of their function, filled by `task`."""


def describe(task: str) -> tuple[Described, ...]:
    """The options of the task of this name; raises `InputError` where there is none."""
    if task not in TASKS:
        raise InputError(f"there is no task {task!r}; {did_you_mean(task, TASKS)}")
    return TASKS[task].options


def task(*, is_series: bool = False, unused: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function, whose first parameter is the model, a task.

    Values are checked against their descriptions, and the function runs without gradients. `unused` are options of
    `DrawOptions` that mean nothing to it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, run = inspect.signature(function), torch.no_grad()(function)
        own = {option.name: option for option in _own_options(function)}

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
                if name in own:
                    own[name].check(value)
            return run(*args, **kwargs)

        shared = _draw_options(is_series) if "options" in signature.parameters else ()
        options = (*own.values(), *(option for option in shared if option.name not in unused))
        TASKS[checked.__name__] = Task(function=checked, is_series=is_series, options=options)
        return checked

    return decorate


def _own_options(function: Callable[..., Any]) -> Iterator[Described]:
    """The parameters between the model and `options`."""
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            yield _described(parameter.name, hints[parameter.name], parameter.default)


def _draw_options(is_series: bool) -> Iterator[Described]:
    for name, hint in get_type_hints(DrawOptions, include_extras=True).items():
        described = _described(name, hint, None)
        other_help = get_args(hint)[1].in_series if is_series else ""
        yield replace(described, help=other_help or described.help)


def _described(name: str, hint: Any, default: Any) -> Described:
    """Join what a parameter's name, default, type and `Option` say."""
    assert get_origin(hint) is Annotated, f"{name} has no description"
    hint, option = get_args(hint)[:2]
    parts = list(_parts(hint))
    choices = [*option.choices, *(one for part in parts if get_origin(part) is Literal for one in get_args(part))]
    kinds = [KINDS[part] for part in parts if part in KINDS]
    kind = option.kind or ("choice" if choices else kinds[0])
    return Described(
        name=name,
        kind=kind,
        help=option.help,
        default=default,
        choices=tuple(choices),
        takes_several=any(get_origin(part) is Sequence for part in parts),
        is_per_stage=any(get_origin(part) is Mapping for part in parts),
        least=option.least,
        above=option.above,
        most=option.most,
        meaning=option.meaning,
    )


def _parts(hint: Any) -> Iterator[Any]:
    """The members of a union; of a sequence or a mapping also what it holds."""
    if get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from _parts(member)
    else:
        yield hint
        if get_origin(hint) is Sequence:
            yield from _parts(get_args(hint)[0])
