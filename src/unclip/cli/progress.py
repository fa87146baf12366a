"""Progress of commands: what the library shows on stderr."""

from unclip.progress import show_progress

__all__ = ["show_progress"]
