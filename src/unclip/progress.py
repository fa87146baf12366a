"""Write lines about progress to stderr; a stderr that is closed, full or missing costs no work."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, all steps)."""
BAR_WIDTH = 24


def say(text: str, end: str = "\n") -> None:
    """Write to stderr if possible; characters that its encoding lacks are escaped."""
    stream = sys.stderr
    # None in a program without a console: `print` would take that for stdout.
    if stream is None:
        return
    with suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=True)


def on_terminal() -> bool:
    """Return whether stderr is a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def show_progress(stage: str, done: int, total: int, unit: str = "steps") -> None:
    """Show that `done` of `total` steps (or another `unit`) of `stage` are finished.

    A terminal gets a bar, anything else a line at the end.
    """
    if on_terminal():
        bar = "#" * (BAR_WIDTH * done // total)
        say(f"\r{stage:<16} [{bar:<{BAR_WIDTH}}] {done}/{total}", end="\n" if done == total else "")
    elif done == total:
        say(f"{stage}: {total} {unit.removesuffix('s') if total == 1 else unit}")
