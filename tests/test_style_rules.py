"""What the code never does; each rule reads the syntax tree, so that prose may name what it forbids."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ALL_FILES = sorted(
    path for folder in ("src", "tests", "benchmarks", "datasets", "examples") for path in (ROOT / folder).rglob("*.py")
)
GLOBAL_SEEDS = re.compile(
    r"(torch(\.(random|cuda|mps|default_generator))?\.(manual_seed(_all)?|seed)|(np|numpy)\.random\.seed|random\.seed)"
)
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe_load(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "torch.load"
        and not is_constant(keyword(node, "weights_only"), True)
    )


def pickle_import(node: ast.AST) -> bool:
    names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] in PICKLES for name in names)


def loose_load(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and "load" in ast.unparse(node.func) and is_constant(keyword(node, "strict"), False)
    )


def global_seed(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and GLOBAL_SEEDS.fullmatch(ast.unparse(node.func)) is not None


def restores_random_state(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and any("fork_rng(" in ast.unparse(item.context_expr) for item in node.items)


def walk_outside_forks(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for those in a block that puts the random state back."""
    if not restores_random_state(tree):
        yield tree
        for child in ast.iter_child_nodes(tree):
            yield from walk_outside_forks(child)


def bare_except(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and node.type is None


def future_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def offenders(
    rule: Callable[[ast.AST], bool], files: list[Path], walk: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk
) -> list[str]:
    """Places where `rule` finds what is forbidden, as file:line."""
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path in files
        for node in walk(ast.parse(path.read_text()))
        if rule(node)
    ]


@pytest.mark.parametrize("rule", [pickle_import, bare_except, future_annotations, loose_load, unsafe_load])
def test_no_file_does(rule: Callable[[ast.AST], bool]) -> None:
    assert offenders(rule, ALL_FILES) == []


def test_the_package_leaves_no_global_seed() -> None:
    assert offenders(global_seed, SOURCES, walk_outside_forks) == []


def test_a_seed_may_stand_only_inside_a_fork() -> None:
    tree = ast.parse("with torch.random.fork_rng():\n    torch.manual_seed(0)\ntorch.manual_seed(1)")
    assert [node.lineno for node in walk_outside_forks(tree) if global_seed(node)] == [3]


def test_no_comment_postpones_work() -> None:
    comments = [
        f"{path.relative_to(ROOT)}:{token.start[0]}"
        for path in ALL_FILES
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string)
    ]
    assert comments == []


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (unsafe_load, "torch.load('x')"),
        (unsafe_load, "torch.load('x', weights_only=False)"),
        (pickle_import, "from pickle import loads"),
        (pickle_import, "import numpy, dill"),
        (loose_load, "net.load_state_dict(state, strict=False)"),
        (global_seed, "torch.manual_seed(0)"),
        (global_seed, "torch.cuda.manual_seed_all(0)"),
        (global_seed, "np.random.seed(0)"),
        (bare_except, "try:\n    1\nexcept:\n    2"),
        (future_annotations, "from __future__ import annotations"),
    ],
)
def test_rules_find_what_they_forbid(rule: Callable[[ast.AST], bool], code: str) -> None:
    assert any(rule(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (unsafe_load, "torch.load('x', weights_only=True)"),
        (loose_load, "net.load_state_dict(state, strict=True)"),
        (loose_load, "zip(a, b, strict=False)"),
        (global_seed, "torch.Generator().manual_seed(0)"),
        (bare_except, "try:\n    1\nexcept OSError:\n    2"),
    ],
)
def test_rules_let_the_rest_pass(rule: Callable[[ast.AST], bool], code: str) -> None:
    assert not any(rule(node) for node in ast.walk(ast.parse(code)))


def test_a_class_name_has_one_meaning() -> None:
    places = defaultdict[str, list[str]](list)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
