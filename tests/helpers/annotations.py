"""Every shape and type annotation of the package becomes a check while the tests run.

jaxtyping's import hook decorates every function, also one that another function makes anew at each call: it would be
compiled each time, for milliseconds. Here such a function is checked the first times that it is made.
"""

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Self, TypeVar

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping._import_hook import JaxtypingTransformer

F = TypeVar("F", bound=Callable[..., Any])
NUM_CHECKED = 3
"""How often a function inside another is checked in a process."""
_made: Counter[CodeType] = Counter()

# The hook decorates methods one by one, where `Self` has no meaning, so it alone goes unchecked.
check_types = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


def check_nested(function: F) -> F:
    """Check a function that another has just made, unless it has been checked often enough."""
    _made[function.__code__] += 1
    if _made[function.__code__] > NUM_CHECKED:
        return function
    return jaxtyping.jaxtyped(typechecker=check_types)(function)  # type: ignore[no-any-return]


def install(modules: Sequence[str]) -> None:
    """Check the annotations of these modules and of all that are in them; stands before their first import."""
    visit_function = JaxtypingTransformer.visit_FunctionDef

    def visit(self: JaxtypingTransformer, node: ast.FunctionDef) -> ast.FunctionDef:
        is_nested = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        num_decorators = len(node.decorator_list)
        visit_function(self, node)
        if is_nested and len(node.decorator_list) > num_decorators:
            decorator = ast.parse("__import__('annotations').check_nested", mode="eval").body
            node.decorator_list[-1] = ast.copy_location(decorator, node)
        return node

    JaxtypingTransformer.visit_FunctionDef = visit
    jaxtyping.install_import_hook(modules, "annotations.check_types")
