"""The history, in SQLite and in PostgreSQL: who holds a request, who may end it, and what is free to be claimed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from postgres import postgresql
from unclip.server.store import METADATA, Store

Open = Callable[..., Store]
BODY = b'{"prompts": "a cat"}'
LONG = 1000.0
"""A lease that does not end in a test."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
        return
    with postgresql() as url:
        yield url


@pytest.fixture
def opened(database: str | None, tmp_path: Path) -> Iterator[Open]:
    """Opens servers' views of one history, which is empty."""
    stores: list[Store] = []

    def open_store(lease: float = LONG, lifetime: float = 3600.0) -> Store:
        stores.append(Store(tmp_path, database, lifetime, lease))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
    if database is not None:
        engine = sqlalchemy.create_engine(database)
        METADATA.drop_all(engine)
        engine.dispose()


def claimed(store: Store) -> list[str]:
    return [work.name for work, body in store.interrupted() if body == BODY]


def bodies(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in (tmp_path / "requests").iterdir())


def test_a_request_has_one_end(opened: Open, tmp_path: Path) -> None:
    store = opened()
    for name in ("one", "two"):
        store.begin(name, "owner", "embed", BODY)
    assert bodies(tmp_path) == ["one", "two"]
    assert store.read("one", "another") is None
    work = store.read("one", "owner")
    assert work is not None
    assert (work.status, work.attempts, work.record, bool(work.replica)) == ("queued", 1, {}, True)
    assert store.end("one", "done", {"data": [1]})
    assert not store.end("one", "failed", {})
    store.cancel("one")
    ended = store.read("one", "owner")
    assert ended is not None
    assert (ended.status, ended.record) == ("done", {"data": [1]})
    store.forget("two")
    assert store.read("two", "owner") is None
    assert bodies(tmp_path) == []


def test_only_what_has_ended_is_swept(opened: Open, tmp_path: Path) -> None:
    store = opened(lifetime=0.0)
    name = store.save(b"content", ".png", "owner")
    for work in ("ended", "waits", "runs"):
        store.begin(work, "owner", "embed", BODY)
    store.end("ended", "done", {})
    store.renew({"runs": {}})
    assert store.find(name, "owner") is None
    store.sweep()
    assert [store.read(work, "owner") is None for work in ("ended", "waits", "runs")] == [True, False, False]
    assert not list((tmp_path / "results").iterdir())


def test_a_result_is_its_owners_and_is_read_by_every_server(opened: Open) -> None:
    name = opened().save(b"content", ".png", "owner")
    path = opened().find(name, "owner")
    assert path is not None
    assert path.read_bytes() == b"content"
    assert opened().find(name, "another") is None


def test_what_a_living_server_holds_is_not_claimed(opened: Open) -> None:
    lease = 0.2
    living, other = opened(), opened(lease)
    living.begin("held", "", "embed", BODY)
    assert claimed(other) == []
    for _ in range(3):
        time.sleep(lease)
        assert living.renew({"held": None}) == []
        assert claimed(other) == []
    time.sleep(lease)
    assert claimed(other) == ["held"]


def test_what_a_dead_server_held_is_claimed_once(opened: Open) -> None:
    lease = 0.1
    dead, others = opened(), [opened(lease) for _ in range(4)]
    names = {f"work-{number}" for number in range(12)}
    for name in sorted(names):
        dead.begin(name, "", "embed", BODY)
    assert [claimed(other) for other in others] == [[]] * len(others)
    time.sleep(lease)
    with ThreadPoolExecutor(len(others)) as threads:
        claims = list(threads.map(claimed, others))
    assert sorted(name for claim in claims for name in claim) == sorted(names)
    for other, claim in zip(others, claims, strict=True):
        assert {name for name in names if other.end(name, "done", {})} == set(claim)
    assert not any(dead.end(name, "done", {}) for name in names)
    assert sorted(dead.renew(dict.fromkeys(names))) == sorted(names)


def test_a_server_that_was_frozen_cannot_end_what_another_has(opened: Open, tmp_path: Path) -> None:
    frozen, other = opened(), opened(0.0)
    frozen.begin("work", "", "embed", BODY)
    assert claimed(other) == ["work"]
    assert not frozen.end("work", "done", {})
    assert bodies(tmp_path) == ["work"]
    assert other.end("work", "done", {})


def test_what_is_released_is_free_at_once_and_counts_no_crash(opened: Open) -> None:
    for _ in range(5):
        store = opened()
        if store.read("work", "") is None:
            store.begin("work", "", "embed", BODY)
        else:
            assert claimed(store) == ["work"]
        store.release()
    work = store.read("work", "")
    assert work is not None
    assert (work.status, work.attempts) == ("queued", 1)


def test_what_brings_servers_down_fails_in_the_end(opened: Open, tmp_path: Path) -> None:
    store = opened()
    store.begin("crashes", "", "embed", BODY)
    store.begin("of-a-connection", "", "embed", None)
    assert [claimed(opened(0.0)) for _ in range(3)] == [["crashes"], ["crashes"], []]
    for name in ("crashes", "of-a-connection"):
        work = store.read(name, "")
        assert work is not None
        assert (work.status, work.record["error"]["code"]) == ("failed", "interrupted")
    assert bodies(tmp_path) == []


def test_cancelling_reaches_the_server_that_draws(opened: Open) -> None:
    drawing, other = opened(), opened()
    drawing.begin("work", "", "embed", BODY)
    drawing.begin("another", "", "embed", BODY)
    other.cancel("work")
    assert drawing.renew({"work": {}, "another": None}) == ["work"]
    assert not drawing.end("work", "done", {})
    work = other.read("work", "")
    assert work is not None
    assert work.status == "cancelled"


def test_every_server_sees_how_far_a_request_is(opened: Open) -> None:
    drawing, other = opened(), opened()
    drawing.begin("work", "", "embed", BODY)
    steps = {"progress": {"stage": "prior", "done": 1, "total": 3}}
    drawing.renew({"work": steps})
    work = other.read("work", "")
    assert work is not None
    assert (work.status, work.record) == ("running", steps)
