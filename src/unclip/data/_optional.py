"""Packages of the extra `train`, imported when they are needed. Knows how to ask for them."""

import importlib
from types import ModuleType

from unclip.errors import DependencyError

__all__ = ["optional_module"]


def optional_module(name: str, purpose: str) -> ModuleType:
    """The module `name`; raises `DependencyError`, which begins with `purpose`, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise DependencyError(f"{purpose} needs {package}; run: pip install 'unclip[train]'") from None
