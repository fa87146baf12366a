"""Define the exceptions of the package, hints in their messages, and the import of optional packages."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UnclipError(Exception):
    """Base of every exception that the package raises on purpose: one line with request, state, choices and fix."""


class InputError(UnclipError):
    """An argument, a prompt, a picture or a path is invalid."""


class ConfigError(UnclipError):
    """A configuration contradicts itself, or names a field that does not exist."""


class CheckpointError(UnclipError):
    """A weights file or a model folder is missing, cut short, foreign, or does not fit the network."""


class DataError(UnclipError):
    """A data set is missing, or one of its files is corrupt."""


class NoCaptionsError(DataError):
    """A set of pictures is sound, but has no captions at all."""


class TrainingError(UnclipError):
    """A training run cannot start or continue."""


class SafetyError(UnclipError):
    """The safety policy of a model blocks a request or its pictures."""


class DownloadError(UnclipError):
    """A file cannot be fetched from the network."""

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing
        """Whether the server answers that there is no such file."""


class DependencyError(UnclipError):
    """A package of an optional extra is not installed."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Write the end of an error about an unknown `name`: the nearest allowed name, if one is near, then all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}."


def optional_module(name: str, purpose: str, extra: str = "train") -> ModuleType:
    """Import `name` of an optional extra; raises `DependencyError`, which begins with `purpose`, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise DependencyError(f"{purpose} needs {package}; run: pip install 'unclip[{extra}]'") from None
