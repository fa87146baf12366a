"""Bound what the holder of a key may ask for: how often, how large, and in how many steps."""

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from unclip.pipelines import Model, extended_size
from unclip.server.config import ServerConfig
from unclip.server.errors import ApiError, refused

WINDOW_SECONDS = 60.0


class RateLimit:
    """Counts the requests of each owner over the last minute; used by one thread alone."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def count(self, owner: str, most: int | None) -> None:
        """Count a request; raises `ApiError`, and counts nothing, where it is more than so many; None: any number."""
        if most is None:
            return
        now, times = time.monotonic(), self._times.setdefault(owner, deque())
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        if len(times) >= most:
            seconds = math.ceil(WINDOW_SECONDS - (now - times[0]))
            raise ApiError(
                f"{len(times)} requests came within a minute, and no more may; ask again in {seconds} seconds.", 429,
                code="rate_limit_exceeded", headers={"Retry-After": str(seconds)},
            )  # fmt: skip
        times.append(now)


def usual_size(model: Model, max_pixels: int) -> int | None:
    """Return None where the model's own size may be drawn, else its largest that may; raises `ApiError` for none."""
    sides = model.image_sizes
    if (model.image_size or sides[-1]) ** 2 <= max_pixels:
        return None
    allowed = [side for side in sides if side**2 <= max_pixels]
    if not allowed:
        raise ApiError(f"at most {max_pixels} pixels may be asked for, and the model draws {sides[0]}x{sides[0]}.", 403)
    return allowed[-1]


def check_cost(arguments: Mapping[str, Any], config: ServerConfig, steps_name: str = "num_steps") -> None:
    """Raise `ApiError` for more steps than may be asked for, and for a picture that is extended beyond the limit."""
    steps = arguments.get("num_steps")
    most = max(steps.values(), default=0) if isinstance(steps, Mapping) else steps or 0
    if most > config.max_steps:
        raise refused(steps_name, most, f"is too many; at most {config.max_steps} can be asked for.")
    margins = {side: arguments.get(side, 0) for side in ("left", "right", "top", "bottom")}
    if arguments.get("aspect") or any(margins.values()):
        width, height = extended_size(arguments["image"].size, **margins, aspect=arguments.get("aspect"))
        if width * height > config.max_pixels:
            raise ApiError(f"the picture would be {width}x{height}; at most {config.max_pixels} pixels are drawn.")
