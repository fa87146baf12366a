"""The progress bar on a terminal; plain lines are tested with the commands."""

import io

import pytest

from unclip.cli.progress import show_progress


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_is_redrawn_in_place_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for done in (1, 2, 3, 4):
        show_progress("prior", done, 4)
    drawn = terminal.getvalue().split("\r")
    assert [line.split("]")[1].strip() for line in drawn[1:]] == ["1/4", "2/4", "3/4", "4/4"]
    assert [line.count("#") for line in drawn[1:]] == [6, 12, 18, 24]
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")
