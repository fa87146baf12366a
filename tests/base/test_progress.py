"""Progress on stderr: a bar on a terminal, lines elsewhere, and nothing that could cost the work."""

import io
import sys

import pytest

from unclip.pipelines.options import progress_function, silent
from unclip.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_terminal_gets_a_bar_that_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for done in (1, 2):
        show_progress("prior", done, 2)
    assert stream.getvalue() == f"\rprior            [{'#' * 12:<24}] 1/2\rprior            [{'#' * 24}] 2/2\n"


def test_a_file_gets_a_line_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for done in (1, 2):
        show_progress("reading", done, 2, "pictures")
    assert stream.getvalue() == "reading: 2 pictures\n"


@pytest.mark.parametrize("stream", [None, Full()])
def test_a_stderr_that_takes_nothing_costs_nothing(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    show_progress("prior", 2, 2)


def test_what_progress_may_be() -> None:
    assert progress_function(True) is show_progress
    assert progress_function(None) is progress_function(False) is silent
    assert progress_function(print) is print
