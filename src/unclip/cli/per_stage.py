"""Settings per stage as people type them: `25`, or `prior=25,decoder=20`. Knows text only; stages check the values."""

from collections.abc import Callable
from typing import TypeVar

from unclip.errors import InputError

__all__ = ["parse_per_stage"]

T = TypeVar("T")


def parse_per_stage(option: str, text: str | None, kind: Callable[[str], T]) -> T | dict[str, T] | None:
    """One value, or a mapping from stage to value; None stays None. Raises `InputError` for text that is neither."""
    if text is None:
        return None
    if "=" not in text:
        return _parse(option, text, kind)
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(stage.strip() and separator for stage, separator, _ in pairs):
        raise InputError(f"{option} {text!r} cannot be read; write one value, or prior=VALUE,decoder=VALUE.")
    return {stage.strip(): _parse(option, value, kind) for stage, _, value in pairs}


def _parse(option: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(text.strip())
    except ValueError:
        raise InputError(f"{option}: {text!r} is not {'a whole' if kind is int else 'a'} number.") from None
