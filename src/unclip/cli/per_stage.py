"""Settings per stage as people type them: `25`, or `prior=25,decoder=20`. Knows text only; stages check the values."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from unclip.errors import InputError

T = TypeVar("T")


def parse_per_stage(
    option: str, typed: str | Sequence[str] | None, kind: Callable[[str], T]
) -> T | dict[str, T] | None:
    """One value, or a mapping from stage to value; None stays None. Raises `InputError` for text that is neither.

    An option that is there several times is read as once with commas; of two values for the same, the last counts.
    """
    texts = [typed] if isinstance(typed, str) else list(typed or [])
    if not texts:
        return None
    if all("=" not in text for text in texts):
        return _parse(option, texts[-1], kind)
    pairs = [pair.partition("=") for text in texts for pair in text.split(",")]
    if not all(stage.strip() and separator for stage, separator, _ in pairs):
        raise InputError(f"{option} {','.join(texts)!r} cannot be read; write one value, or prior=VALUE,decoder=VALUE.")
    return {stage.strip(): _parse(option, value, kind) for stage, _, value in pairs}


def _parse(option: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(text.strip())
    except ValueError:
        raise InputError(f"{option}: {text!r} is not {'a whole' if kind is int else 'a'} number.") from None
