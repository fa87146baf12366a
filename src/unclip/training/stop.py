"""A polite end: signals become a flag that the loop reads between steps. Knows no loop."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """False until the process has been asked to end."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Turn the first SIGINT or SIGTERM into a set flag; a second one acts at once. Elsewhere than in the main thread,
    where signals cannot be caught, the flag stays unset.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        flag.name = signal.Signals(number).name
        _restore(previous)

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield flag
    finally:
        _restore(previous)


def outlive_first_signal(worker: int) -> None:
    """For processes that fetch batches: launchers and terminals signal them too, and the run still needs them.

    A second signal ends them, so they outlive no run. Called in each by `DataLoader` with its number.
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, ignore)


def _restore(handlers: Mapping[signal.Signals, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # what getsignal returned
