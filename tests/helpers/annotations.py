"""Every shape and type annotation of the package becomes a check while the tests run.

jaxtyping's import hook decorates every function. Checking all calls would take as long as the tests themselves, most of
it in the inner loops of networks, so that each test checks the first calls of each function.
"""

import ast
from collections import Counter
from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import Any, Self

import jaxtyping
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping._import_hook import JaxtypingTransformer

Function = Callable[..., Any]
NUM_CALLS = 8
"""Of a function that are checked in each test."""
NUM_MADE = 3
"""How often a function that others make anew at each call is checked in a process: it is compiled each time."""
_test = 0
_made: Counter[CodeType] = Counter()

# The hook decorates methods one by one, where `Self` has no meaning, so it alone goes unchecked.
typechecked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


def begin_test() -> None:
    """Check the next calls of every function again."""
    global _test
    _test += 1


def check_first_calls(function: Function) -> Function:
    """Check the first calls of `function` in each test; the check is compiled at the first."""
    checked, test, num_left = None, -1, 0

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        nonlocal checked, test, num_left
        if torch.compiler.is_compiling():
            return function(*args, **named)
        if test != _test:
            test, num_left = _test, NUM_CALLS
        if num_left == 0:
            return function(*args, **named)
        num_left -= 1
        checked = checked or _checked(function)
        return checked(*args, **named)

    return call


def check_first_made(function: Function) -> Function:
    """Check a function that another has just made, unless that has happened often."""
    _made[function.__code__] += 1
    return _checked(function) if _made[function.__code__] <= NUM_MADE else function


def _checked(function: Function) -> Function:
    return jaxtyping.jaxtyped(typechecker=typechecked)(function)  # type: ignore[no-any-return]


def install(module: str) -> None:
    """Check the annotations of a package; stands before its first import."""
    visit_function = JaxtypingTransformer.visit_FunctionDef

    def visit(self: JaxtypingTransformer, node: ast.FunctionDef) -> ast.FunctionDef:
        is_nested = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        num_decorators = len(node.decorator_list)
        visit_function(self, node)
        if len(node.decorator_list) > num_decorators:
            name = "check_first_made" if is_nested else "check_first_calls"
            decorator = ast.parse(f"__import__('annotations').{name}", mode="eval").body
            node.decorator_list[-1] = ast.copy_location(decorator, node)
        return node

    JaxtypingTransformer.visit_FunctionDef = visit
    # Compiled modules are kept under the name of the checker: another way of decorating needs another name.
    jaxtyping.install_import_hook(module, "annotations.typechecked")
