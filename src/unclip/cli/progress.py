"""Progress on stderr: a bar on a terminal, a line per finished stage elsewhere. Knows names and counts."""

from unclip.progress import on_terminal, say

__all__ = ["show_progress"]

BAR_WIDTH = 24


def show_progress(stage: str, done: int, total: int, unit: str = "steps") -> None:
    """Show that `done` of `total` steps, or what the `unit` says, of `stage` are made."""
    if on_terminal():
        bar = "#" * (BAR_WIDTH * done // total)
        say(f"\r{stage:<16} [{bar:<{BAR_WIDTH}}] {done}/{total}", end="\n" if done == total else "")
    elif done == total:
        say(f"{stage}: {total} {unit}")
