"""Imports point strictly down the layers of the design, or stay inside their own part."""

import ast
from collections.abc import Iterator
from pathlib import Path

import unclip

SOURCE = Path(unclip.__file__).parent
LAYERS = [  # lowest first; a line's parts are siblings
    "errors shapes __version__",
    "files pictures progress",
    "config runtime images",
    "machine report",
    "checkpoint",
    "diffusion nn",
    "models clip",
    "data metrics safety interop",
    "model",
    "pipelines",
    "training evaluate",
    "recipes testing bench",
    "server",
    "cli",
    "__init__ __main__",
]
LAYER = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> Iterator[str]:
    """Parts of unclip that a file imports, also inside functions; a relative import is one of the own part."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "unclip":
            yield from (name.name if name.name in LAYER else "__init__" for name in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            outside = isinstance(node, ast.ImportFrom) and node.level > 0
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (name.split(".")[1] for name in modules if not outside and name.startswith("unclip."))


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in SOURCE.rglob("*.py")} <= LAYER.keys()


def test_imports_point_down() -> None:
    upward = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for path in sorted(SOURCE.rglob("*.py"))
        for target in imported_parts(path)
        if target != part_of(path) and LAYER[target] >= LAYER[part_of(path)]
    ]
    assert not upward


def test_only_distributed_knows_accelerate() -> None:
    users = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if "import accelerate" in path.read_text()}
    users |= {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if "from accelerate" in path.read_text()}
    assert users <= {"training/distributed.py"}
