"""Two servers of one history: each shows, follows and cancels what the other draws."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from live_server import events_of, opened, running
from unclip.pipelines import UnClip

LONG = {"prompts": "a cat", "num_images": 16, "num_steps": 1000}


@pytest.fixture(scope="module")
def two(pipe: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    folder = tmp_path_factory.mktemp("shared")
    settings: dict[str, Any] = {"lease_seconds": 1.0}
    with (
        running(pipe, folder, **settings) as first,
        running(pipe, folder, **settings) as second,
        httpx.Client(base_url=first, timeout=60) as one,
        httpx.Client(base_url=second, timeout=60) as other,
    ):
        yield [one, other]


def begin(http: httpx.Client, **body: Any) -> str:
    return str(http.post("/v1/tasks/text_to_image", json={"prompts": "a cat", **body}).headers["location"])


def test_a_result_is_followed_and_read_through_another_server(two: list[httpx.Client], pipe: UnClip) -> None:
    place = begin(two[0], seed=1)
    records = []
    for http in two:
        with http.stream("GET", f"{place}/events") as response:
            *_, (kind, record) = events_of(response)
        assert kind == "done"
        assert http.get(place).json() == record
        (one,) = record["data"]
        (drawn,) = pipe.text_to_image("a cat", seed=1)
        assert opened(http.get(one["url"]).content).tobytes() == drawn.tobytes()
        records.append({**record, "data": one["seed"]})
    assert records[0] == records[1]


def test_progress_is_seen_and_cancelling_works_through_another_server(two: list[httpx.Client]) -> None:
    first, second = two
    place = begin(first, **LONG)
    with first.stream("GET", f"{place}/events") as drawing, second.stream("GET", f"{place}/events") as polling:
        events = events_of(polling)
        kind, data = next(event for event in events if event[0] == "progress")
        assert data.keys() == {"stage", "done", "total"}
        assert second.get(place).json()["status"] == "running"
        assert second.delete(place).json()["status"] == "cancelled"
        for stream in (events, events_of(drawing)):
            *_, (kind, record) = stream
            assert (kind, record["status"]) == ("cancelled", "cancelled")
    assert first.get(place).json()["status"] == "cancelled"
    # The first server has let it go.
    with first.stream("GET", f"{begin(first, seed=2)}/events") as response:
        assert [kind for kind, _ in events_of(response)][-1] == "done"
