"""Progress on stderr: a bar on a terminal, a line per finished stage elsewhere. Knows names and counts."""

import sys

__all__ = ["show_progress"]

BAR_WIDTH = 24


def show_progress(stage: str, done: int, total: int, unit: str = "steps") -> None:
    """Show that `done` of `total` steps, or what the `unit` says, of `stage` are made."""
    if sys.stderr.isatty():
        bar = "#" * (BAR_WIDTH * done // total)
        end = "\n" if done == total else ""
        print(f"\r{stage:<16} [{bar:<{BAR_WIDTH}}] {done}/{total}", end=end, file=sys.stderr, flush=True)
    elif done == total:
        print(f"{stage}: {total} {unit}", file=sys.stderr, flush=True)
