"""End a run politely: signals set a flag that the trainer reads between steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """False until the process has been asked to end; then `name` is the signal's."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Set the flag at the first SIGINT or SIGTERM; a second one acts at once.

    Outside the main thread signals cannot be caught, and the flag stays unset.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        flag.name = signal.Signals(number).name
        restore()

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield flag
    finally:
        restore()


def outlive_first_signal(worker: int) -> None:
    """Ignore the first signal in a process that loads batches: launchers and terminals signal it together with the
    run, which still needs it.

    A second signal ends it, so that it outlives no run. `DataLoader` calls this in each process with its number.
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, ignore)
