"""Expose the version of the package and, imported on first use, its main names and its parts."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unclip.errors import SafetyError as SafetyError
    from unclip.errors import UnclipError as UnclipError
    from unclip.pipelines import Draft as Draft
    from unclip.pipelines import Result as Result
    from unclip.pipelines import UnClip as UnClip

__version__ = "0.1.0"
__all__ = ["Draft", "Result", "SafetyError", "UnClip", "UnclipError", "__version__"]

# The module of each name, so that `import unclip` does not import torch.
HOMES = {
    **dict.fromkeys(("SafetyError", "UnclipError"), "unclip.errors"),
    **dict.fromkeys(("Draft", "Result", "UnClip"), "unclip.pipelines"),
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__`, or a part of the package such as `unclip.images`, on first use."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name in _parts():
        return import_module(f"unclip.{name}")
    raise AttributeError(f"module 'unclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names and parts, imported or not."""
    return sorted({*__all__, *_parts()})


def _parts() -> list[str]:
    return [part.name for part in iter_modules(__path__) if not part.name.startswith("_")]
