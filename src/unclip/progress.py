"""Lines on stderr for whoever watches. They are best effort: a stderr that is closed, full or missing costs no work."""

import sys
from contextlib import suppress

__all__ = ["on_terminal", "say"]


def say(text: str, end: str = "\n") -> None:
    """Write to stderr if it takes the text; characters that it has not are escaped."""
    stream = sys.stderr
    # None where a program has no console: `print` would take that for stdout.
    if stream is None:
        return
    with suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=True)


def on_terminal() -> bool:
    """Whether somebody watches stderr."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False
