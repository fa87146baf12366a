"""The queue: compatible requests share a pass and get their own pictures, and one that ends early harms no other."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from unclip.pipelines import Result, UnClip
from unclip.server.errors import ApiError
from unclip.server.metrics import Metrics
from unclip.server.work import Work, WorkEvent
from unclip.server.worker import Worker, preview_steps

LONG, OTHER_LONG = "a red apple " * 20, "an old house " * 20
"""Both are cut to the same length."""


def work_of(prompts: str, seeds: list[int], *, seconds: float = 60.0, **options: Any) -> Work:
    arguments = {"prompts": prompts, "num_images": len(seeds), "seed": seeds, "image_size": 16, **options}
    return Work("text_to_image", arguments, lambda result: result, timeout_seconds=seconds)


def end_of(work: Work) -> WorkEvent:
    """The last event of a request, which is waited for."""
    ended = threading.Event()
    work.listen(lambda event: ended.set() if event.is_end else None)
    assert ended.wait(60)
    return work.last


class Held:
    """A worker whose thread waits in the end of a first request until it is let go."""

    def __init__(self, pipe: UnClip, queue_length: int = 8, max_batch: int = 4) -> None:
        self.metrics, self._go, begun = Metrics(), threading.Event(), threading.Event()
        self.worker = Worker(pipe, self.metrics, queue_length=queue_length, max_batch=max_batch)
        self.worker.start()

        def finish(result: Result) -> None:
            begun.set()
            assert self._go.wait(60)

        arguments = {"prompts": "first", "seed": [0], "image_size": 16}
        self.worker.submit(Work("text_to_image", arguments, finish, timeout_seconds=60))
        assert begun.wait(60)

    def release(self) -> None:
        self._go.set()

    def stop(self) -> None:
        """Let the pass that runs end, and no other begin."""
        self.worker.begin_stop()
        self.worker.join()

    def passes(self) -> float:
        """Passes that have ended."""
        lines = self.metrics.text().decode().splitlines()
        return float(next(line for line in lines if line.startswith("unclip_pass_images_count")).split()[1])


@pytest.fixture
def held(pipe: UnClip) -> Iterator[Held]:
    held = Held(pipe)
    yield held
    held.release()
    held.stop()


def assert_drawn(work: Work, pipe: UnClip) -> None:
    result: Result = end_of(work).data
    assert work.last.kind == "done"
    for place, seed in enumerate(work.arguments["seed"]):
        options = {key: value for key, value in work.arguments.items() if key not in ("prompts", "num_images", "seed")}
        (drawn,) = pipe.text_to_image(work.arguments["prompts"], seed=seed, **options)
        assert result.images[place].tobytes() == drawn.tobytes()
        assert (result.prompts[place], result.seeds[place]) == (work.arguments["prompts"], seed)


def draw_all(held: Held, works: list[Work], pipe: UnClip) -> None:
    """Submit requests while the worker is held, let it go, and check their pictures."""
    for work in works:
        held.worker.submit(work)
    held.release()
    for work in works:
        assert_drawn(work, pipe)
    held.stop()


def test_compatible_requests_share_a_pass(held: Held, pipe: UnClip) -> None:
    works = [
        work_of("a cat", [1, 2]),
        work_of("a cat", [5], image_size=32),
        work_of("a house", [9]),
        work_of("an apple", [9]),
        work_of("a heart", [3]),
        work_of("a red apple", [3]),
    ]
    draw_all(held, works, pipe)
    # The first request, three together, the larger picture, what had no more room, and the longer text.
    assert held.passes() == 5


def test_requests_of_one_prompt_share_a_pass(held: Held, pipe: UnClip) -> None:
    works = [work_of("a cat", [1, 2]), work_of("a cat", [2**62, 1])]
    draw_all(held, works, pipe)
    assert held.passes() == 2


def test_a_shared_pass_tells_nobody_of_other_prompts(held: Held) -> None:
    works = [work_of(OTHER_LONG, [1]), work_of(LONG, [1])]
    for work in works:
        held.worker.submit(work)
    held.release()
    results = [end_of(work).data for work in works]
    held.stop()
    assert held.passes() == 2
    assert [list(result.settings["cut"]) for result in results] == [[OTHER_LONG], [LONG]]


def test_a_request_that_fails_harms_no_other_of_its_pass(held: Held, pipe: UnClip) -> None:
    works = [work_of("a cat", [1]), work_of("a cat", [-1])]
    for work in works:
        held.worker.submit(work)
    held.release()
    assert_drawn(works[0], pipe)
    failed = end_of(works[1])
    assert (failed.kind, failed.data.status) == ("failed", 400)


def test_a_full_queue_refuses(pipe: UnClip) -> None:
    held = Held(pipe, queue_length=1)
    waiting = work_of("a cat", [1])
    held.worker.submit(waiting)
    with pytest.raises(ApiError) as refused:
        held.worker.submit(work_of("a cat", [2]))
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    held.worker.submit(work_of("a cat", [2]), is_new=False)
    held.release()
    assert_drawn(waiting, pipe)
    held.stop()
    with pytest.raises(ApiError) as refused:
        held.worker.submit(work_of("a cat", [2]))
    assert refused.value.status == 503


def test_what_is_cancelled_makes_room(pipe: UnClip) -> None:
    held = Held(pipe, queue_length=1)
    first, second = work_of("a cat", [1]), work_of("a cat", [2])
    held.worker.submit(first)
    held.worker.cancel(first)
    assert end_of(first).kind == "cancelled"
    held.worker.submit(second)
    held.release()
    assert_drawn(second, pipe)
    held.stop()


def test_cancelling_stops_a_pass_that_nobody_else_waits_for(held: Held, pipe: UnClip) -> None:
    long, shared, after = work_of("a cat", [1]), work_of("a cat", [2]), work_of("a dog", [3], image_size=32)
    steps = []

    def cancel_at_first_step(event: WorkEvent) -> None:
        if event.kind == "progress":
            steps.append(event.data)
            held.worker.cancel(long)

    long.listen(cancel_at_first_step)
    for work in (long, shared, after):
        held.worker.submit(work)
    held.release()
    assert end_of(long).kind == "cancelled"
    assert len(steps) == 1
    assert_drawn(shared, pipe)
    assert_drawn(after, pipe)


def test_what_is_late_fails(held: Held, pipe: UnClip) -> None:
    late, after = work_of("a cat", [1], seconds=0.0), work_of("a cat", [2])
    held.worker.submit(late)
    held.worker.submit(after)
    held.release()
    failed = end_of(late)
    assert (failed.kind, failed.data.status) == ("failed", 504)
    assert_drawn(after, pipe)


@pytest.mark.parametrize(
    ("count", "num_steps", "steps"), [(0, 16, []), (1, 16, [7]), (3, 16, [3, 7, 11]), (3, 3, [0, 1]), (2, 1, [])]
)
def test_previews_are_spaced_evenly(count: int, num_steps: int, steps: list[int]) -> None:
    assert preview_steps(count, num_steps) == steps
