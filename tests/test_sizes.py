"""Files and functions stay short; an offender is named with its length."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_HARD, FUNCTION_HARD = 400, 80


def function_lengths(path: Path) -> dict[str, int]:
    """Lines of each function from `def` to its end, less its docstring: explaining more never costs."""
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            first = node.body[0]
            has_docstring = ast.get_docstring(node, clean=False) is not None
            docstring = first.end_lineno - first.lineno + 1 if has_docstring and first.end_lineno else 0
            name = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            lengths[name] = node.end_lineno - node.lineno + 1 - docstring
    return lengths


FUNCTIONS = {name: length for path in FILES for name, length in function_lengths(path).items()}


def test_no_file_is_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES + TESTS}
    assert {name: length for name, length in lengths.items() if length > FILE_HARD} == {}


def test_no_function_is_long() -> None:
    assert {name: length for name, length in FUNCTIONS.items() if length > FUNCTION_HARD} == {}
