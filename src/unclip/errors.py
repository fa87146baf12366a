"""The exception tree, and the nearest-name hint that its messages end in. Knows nothing else of the package."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DependencyError",
    "InputError",
    "NoCaptionsError",
    "TrainingError",
    "UnclipError",
    "did_you_mean",
]


class UnclipError(Exception):
    """Base of every exception the package raises on purpose: one line that says asked, found, allowed and fix."""


class InputError(UnclipError):
    """An argument, a prompt, a picture or a path that a caller gave cannot be used."""


class ConfigError(UnclipError):
    """A configuration contradicts itself, or names a field that does not exist."""


class CheckpointError(UnclipError):
    """A weights file or a model folder is missing, cut short, foreign, or does not fit the network."""


class DataError(UnclipError):
    """A data set is missing, or one of its files is corrupt."""


class NoCaptionsError(DataError):
    """A set of pictures is sound, but has no captions at all."""


class TrainingError(UnclipError):
    """A training run cannot start or go on."""


class DependencyError(UnclipError):
    """A package of an optional extra is not installed."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The end of an error about an unknown `name`: the nearest allowed name, if one is near, then all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}."
