"""The command line: parses, calls, prints. Knows every part by its public names and no mathematics."""

from unclip.cli.main import main

__all__ = ["main"]
