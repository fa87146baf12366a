"""The progress bar on a terminal; plain lines are tested with the commands."""

import errno
import io
import os

import pytest

from unclip.progress import say, show_progress


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def closed(stream: io.StringIO) -> io.StringIO:
    stream.close()
    return stream


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


class Full(Terminal):
    """A stream that takes nothing."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stream", [None, Full(), closed(io.StringIO()), closed(Terminal())])
def test_progress_that_nobody_can_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: io.StringIO | None
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    show_progress("prior", 4, 4)
    say("a note")
    assert capsys.readouterr().out == ""


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(content, encoding="ascii", errors="strict"))
    say("note: \ud83d 猫")
    assert content.getvalue() == b"note: \\ud83d \\u732b\n"
