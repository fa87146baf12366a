"""Packages and programs that only some tests need: absent, they skip on a desk and fail where all must be tested."""

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest


def require(name: str) -> Any:
    """The module; skips the tests of the calling file where it is missing, unless CI is set."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def require_program(name: str) -> str:
    """The path of a program, of the environment before those of the machine; skips or fails as `require` does."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    return path or pytest.skip(f"{name} is not installed")
