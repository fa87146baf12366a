"""Packages that only some tests need: absent, they skip on a desk and fail where everything must be tested."""

import importlib
import os
from typing import Any

import pytest


def require(name: str) -> Any:
    """The module; skips the tests of the calling file where it is missing, unless CI is set."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)
