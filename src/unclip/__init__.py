"""The package's face: its version and, on first use, `UnClip`; it knows no mathematics and imports nothing heavy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unclip.errors import UnclipError as UnclipError
    from unclip.pipelines import UnClip as UnClip

__version__ = "0.1.0"
__all__ = ["UnClip", "UnclipError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `UnClip` and `UnclipError` on first use, so that `import unclip` does not import torch."""
    if name == "UnClip":
        from unclip.pipelines import UnClip

        return UnClip
    if name == "UnclipError":
        from unclip.errors import UnclipError

        return UnclipError
    raise AttributeError(f"module 'unclip' has no attribute {name!r}")
