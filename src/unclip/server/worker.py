"""The one thread that draws: requests wait in a bounded queue, and compatible ones share a pass."""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from unclip.errors import UnclipError
from unclip.pipelines import Model, Result
from unclip.pipelines.options import TASKS, PreviewStep
from unclip.server.errors import ApiError, explain
from unclip.server.memory import TRIM_SECONDS, Trimmer
from unclip.server.metrics import Metrics
from unclip.server.work import Work, WorkEvent, stopping


class NotWantedError(UnclipError):
    """Nobody waits any more for what is being drawn."""


class Worker:
    """Draws what is submitted, in turn; the model is used by its thread alone."""

    def __init__(self, model: Model, metrics: Metrics, *, queue_length: int, max_batch: int) -> None:
        self._model, self._metrics = model, metrics
        self._queue_length, self._max_batch = queue_length, max_batch
        self._waiting = deque[Work]()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._pass_seconds, self._trim = 1.0, Trimmer()
        self._thread = threading.Thread(target=self._run, name="unclip-worker", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def begin_stop(self) -> list[Work]:
        """Refuse new requests, finish the pass that runs unless all of it survives, and return what waited."""
        with self._changed:
            self._is_stopping = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        return waiting

    def join(self) -> None:
        """Wait for the end of the pass that runs."""
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._is_stopping

    def submit(self, work: Work, *, is_new: bool = True) -> None:
        """Put a request into the queue; raises `ApiError` where that is full for new ones, or the server stops."""
        prompts = work.arguments.get("prompts")
        # On a CPU texts of one length go through the decoder together, others one by one; see `begin`.
        if isinstance(prompts, str) and self._model.device.type == "cpu":
            (work.text_length,) = self._model.need_clip.count_tokens([prompts])
        with self._changed:
            if not self.is_ready:
                raise stopping()
            if (waiting := len(self._waiting)) >= self._queue_length and is_new:
                seconds = max(math.ceil(self._pass_seconds * waiting), 1)
                message = f"{waiting} requests wait, and no more may; ask again in {seconds} seconds."
                raise ApiError(message, 429, code="queue_full", headers={"Retry-After": str(seconds)})
            self._waiting.append(work)
            self._metrics.waiting.set(waiting + 1)
            self._changed.notify_all()

    def cancel(self, work: Work, kind: Literal["cancelled", "moved"] = "cancelled") -> None:
        """End a request: at once where it waits, else at the next step, unless others share its pass."""
        work.is_cancelled = True
        with self._changed:
            if work in self._waiting:
                self._waiting.remove(work)
                self._metrics.waiting.set(len(self._waiting))
        work.tell(WorkEvent(kind))

    def _run(self) -> None:
        while works := self._next():
            wanted = [work for work in works if work.is_wanted]
            if not wanted:
                continue
            started = time.monotonic()
            self._draw(wanted)
            seconds = time.monotonic() - started
            self._pass_seconds = 0.7 * self._pass_seconds + 0.3 * seconds
            self._metrics.passes.observe(seconds)
            self._metrics.batch.observe(sum(work.num_images for work in wanted))
            self._trim()

    def _next(self) -> list[Work]:
        """Wait for requests, and take the first with all that may share its pass; none: the server stops."""
        with self._changed:
            while not (self._waiting or self._is_stopping):
                if not self._changed.wait(TRIM_SECONDS):
                    self._trim()  # a server at rest gives back what its last pass needed
            if self._is_stopping:
                return []
            works = [self._waiting.popleft()]
            count, group = works[0].num_images, works[0].group
            for other in list(self._waiting) if group is not None else ():
                if other.group == group and count + other.num_images <= self._max_batch:
                    self._waiting.remove(other)
                    works.append(other)
                    count += other.num_images
            self._metrics.waiting.set(len(self._waiting))
            return works

    def _draw(self, works: Sequence[Work]) -> None:
        """Draw one pass, and tell each request its part of the result."""
        for work in works:
            work.tell(WorkEvent("running"))
        try:
            outcome = self._call(works)
        except NotWantedError:
            for work in works:
                work.tell(WorkEvent("moved"))  # to the next start, where this one stops
            return
        except Exception as error:  # whatever it is, the next request must be drawn
            if len(works) > 1:  # it may be the fault of one of them
                for work in works:
                    self._draw([work])
                return
            works[0].tell(WorkEvent("failed", explain(error)))
            return
        first = 0
        for work in works:
            part = outcome if len(works) == 1 else part_of(outcome, work, first)
            first += work.num_images
            if work.is_wanted:
                try:
                    work.tell(WorkEvent("done", work.finish(part)))
                except Exception as error:
                    work.tell(WorkEvent("failed", explain(error)))

    def _call(self, works: Sequence[Work]) -> Any:
        description, guard = TASKS[works[0].task], self._model.guard
        options = {option.name for option in description.options}
        arguments = dict(works[0].arguments) if len(works) == 1 else join_arguments(works)
        owners = [(work, place) for work in works for place in range(work.num_images)]

        def progress(stage: str, done: int, total: int) -> None:
            wanted = [work for work in works if work.is_wanted]
            if not wanted or (self._is_stopping and all(work.survives for work in wanted)):
                raise NotWantedError("nobody waits for these pictures.")
            for work in wanted:
                work.tell(WorkEvent("progress", (stage, done, total)))

        def preview(step: PreviewStep) -> None:
            pictures = None
            for offset, (work, place) in enumerate(owners[step.first :]):
                steps = preview_steps(work.num_previews, step.num_steps)
                if step.index in steps:
                    pictures = step.pictures() if pictures is None else pictures
                    if offset >= len(pictures):
                        return
                    if guard is None or guard.may_show(pictures[offset]):
                        work.tell(WorkEvent("preview", (place, steps.index(step.index), pictures[offset])))

        arguments |= {"progress": progress} if "progress" in options else {}
        if "preview" in options and any(work.num_previews for work in works):
            arguments["preview"] = preview
        return description.function(self._model, **arguments)


def preview_steps(count: int, num_steps: int) -> list[int]:
    """Choose up to `count` of the decoder's steps, evenly spaced and none of them the last."""
    steps = {round(number * num_steps / (count + 1)) - 1 for number in range(1, count + 1)}
    return sorted(step for step in steps if 0 <= step < num_steps - 1)


def join_arguments(works: Sequence[Work]) -> dict[str, Any]:
    """Join requests of one group into the arguments of one call, picture by picture."""
    prompts = [work.arguments["prompts"] for work in works]
    seeds = [seed for work in works for seed in work.arguments["seed"]]
    joined = {**works[0].arguments, "seed": seeds}
    # Of one prompt more pictures may go through a network together than of several, see `begin`.
    if len(set(prompts)) == 1:
        return joined | {"prompts": prompts[0], "num_images": len(seeds)}
    texts = [work.arguments["prompts"] for work in works for _ in range(work.num_images)]
    return joined | {"prompts": texts, "num_images": 1}


def part_of(result: Result, work: Work, first: int) -> Result:
    """Return the pictures of one request of a pass, which hold nothing of the other requests' texts."""
    part = result[first : first + work.num_images]
    texts: Mapping[str, str] = part.settings.get("cut", {})
    own = {work.arguments["prompts"], work.arguments.get("negative_prompt", "")}
    cut = {text: end for text, end in texts.items() if text in own}
    settings = {name: value for name, value in part.settings.items() if name != "cut"}
    return replace(part, settings=settings | ({"cut": cut} if cut else {}))
