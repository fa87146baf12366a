"""One accepted request: what is drawn for it, where it is, and who listens to it. Knows no HTTP."""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from unclip.server.errors import ApiError

EventKind = Literal["queued", "running", "progress", "preview", "done", "failed", "cancelled", "moved"]
ENDS = ("done", "failed", "cancelled")
"""How a request can end; `moved` is the end of its work here, where another server has it."""
SEPARATE = ("prompts", "num_images", "seed")
"""What may differ between requests that share a pass."""


class WorkEvent(NamedTuple):
    """Something that happened to a request."""

    kind: EventKind
    data: Any = None
    """What `finish` made of the result; an `ApiError`; (stage, done, total); or (place, number, picture)."""

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self.kind in (*ENDS, "moved")

    @property
    def steps(self) -> dict[str, Any]:
        """How far it is, as clients read it; empty unless the event is of progress."""
        return dict(zip(("stage", "done", "total"), self.data, strict=True)) if self.kind == "progress" else {}


class Work:
    """A task with its arguments, drawn by the worker; any thread may ask for its end or listen."""

    def __init__(
        self,
        task: str,
        arguments: Mapping[str, Any],
        finish: Callable[[Any], Any],
        *,
        timeout_seconds: float,
        owner: str = "",
        num_previews: int = 0,
        name: str | None = None,
    ) -> None:
        self.name = secrets.token_urlsafe(18) if name is None else name
        """An unguessable name."""
        self.task, self.arguments, self.finish = task, arguments, finish
        self.owner, self.num_previews = owner, num_previews
        self.deadline = time.monotonic() + timeout_seconds
        self.last = WorkEvent("queued")
        self.text_length = 0
        """Tokens of its prompt, where requests of other lengths gain nothing in its pass."""
        self.is_cancelled = False
        self.survives = False
        """Whether it is drawn after a stop of the server, if it has not been by then."""
        self._listeners: list[Callable[[WorkEvent], None]] = []
        self._lock = threading.Lock()

    @property
    def num_images(self) -> int:
        """Pictures that it draws."""
        return int(self.arguments.get("num_images", 1))

    @property
    def group(self) -> str | None:
        """What is the same for all requests that may share a pass; None: none may."""
        if self.task != "text_to_image" or not isinstance(self.arguments.get("seed"), list):
            return None
        if self.arguments.get("best_of") is not None or not isinstance(self.arguments["prompts"], str):
            return None
        settings = json.dumps({key: self.arguments[key] for key in sorted(self.arguments) if key not in SEPARATE})
        return f"{self.text_length} {settings}"

    @property
    def is_wanted(self) -> bool:
        """Whether its result is waited for; what is past its time fails here."""
        if not self.last.is_end and time.monotonic() > self.deadline:
            self.tell(WorkEvent("failed", timed_out()))
        return not (self.is_cancelled or self.last.is_end)

    def listen(self, listener: Callable[[WorkEvent], None]) -> None:
        """Call `listener` with the last event and with all that follow, from whichever thread."""
        with self._lock:
            self._listeners.append(listener)
            last = self.last
        listener(last)

    def events(self) -> "asyncio.Queue[WorkEvent]":
        """Return a queue of the running loop that gets the last event and all that follow."""
        queue, loop = asyncio.Queue[WorkEvent](), asyncio.get_running_loop()

        def put(event: WorkEvent) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(queue.put_nowait, event)

        self.listen(put)
        return queue

    def tell(self, event: WorkEvent) -> None:
        """Tell all who listen; after an end nothing is told."""
        with self._lock:
            if self.last.is_end:
                return
            self.last = event
            listeners = list(self._listeners)
        for listener in listeners:
            listener(event)


def stopping() -> ApiError:
    """Make the error about a server that stops."""
    return ApiError("the server stops; ask again when it is back.", 503, code="stopping")


def timed_out() -> ApiError:
    """Make the error about a request that took too long."""
    return ApiError("the time for this request is over; ask for less, or for it later.", 504, code="timeout")
