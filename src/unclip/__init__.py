"""The package's face: its version and, on first use, all the rest. Importing it imports nothing heavy."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unclip.errors import UnclipError as UnclipError
    from unclip.pipelines import Draft as Draft
    from unclip.pipelines import Result as Result
    from unclip.pipelines import UnClip as UnClip

__version__ = "0.1.0"
__all__ = ["Draft", "Result", "UnClip", "UnclipError", "__version__"]

# Where each name is, so that `import unclip` does not import torch.
HOMES = {
    "Draft": "unclip.pipelines",
    "Result": "unclip.pipelines",
    "UnClip": "unclip.pipelines",
    "UnclipError": "unclip.errors",
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__`, or a part of the package such as `unclip.images`, on first use."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name in _parts():
        return import_module(f"unclip.{name}")
    raise AttributeError(f"module 'unclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, imported or not."""
    return sorted({*__all__, *_parts()})


def _parts() -> list[str]:
    return [part.name for part in iter_modules(__path__) if not part.name.startswith("_")]
