"""Bound how often the holder of a key may ask."""

import math
import time
from collections import deque

from unclip.server.errors import ApiError

WINDOW_SECONDS = 60.0


class RateLimit:
    """Counts the requests of each owner over the last minute; used by one thread alone."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._times: dict[str, deque[float]] = {}

    def count(self, owner: str) -> None:
        """Count a request; raises `ApiError`, and counts nothing, where it is one too many."""
        if self._most is None:
            return
        now, times = time.monotonic(), self._times.setdefault(owner, deque())
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._most:
            seconds = math.ceil(WINDOW_SECONDS - (now - times[0]))
            raise ApiError(
                f"{len(times)} requests came within a minute, and no more may; ask again in {seconds} seconds.", 429,
                code="rate_limit_exceeded", headers={"Retry-After": str(seconds)},
            )  # fmt: skip
        times.append(now)
