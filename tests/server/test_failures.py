"""Clients that stop half way, disks that are full and histories that fail: said with the right status, nothing kept."""

import base64
import errno
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from sqlalchemy.exc import SQLAlchemyError

from live_server import events_of, running
from unclip.pipelines import Draft, UnClip
from unclip.server.errors import explain
from unclip.server.store import Store

LONG = {"prompts": "a cat", "num_images": 16, "num_steps": 1000}
TEXT = {"inputs": {"text": "a cat"}}


def sql(store: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(store / "history.sqlite")
    rows = connection.execute(statement).fetchall()
    connection.commit()
    connection.close()
    return rows


def becomes(is_so: Callable[[], bool]) -> bool:
    """Wait until something is so; False: it was not within the time of the whole test."""
    end = time.monotonic() + 30
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


@contextmanager
def half_a_request(url: str) -> Iterator[socket.socket]:
    """A connection on which the headers and some of the body of a request have been sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST /v1/tasks/embed HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + b'{"inputs"')
        yield connection


def test_a_body_that_comes_too_slowly_is_refused(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path, body_seconds=0.2) as url:
        with half_a_request(url) as connection:
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        assert httpx.post(f"{url}/v1/tasks/embed", json=TEXT).status_code == 202


def test_a_client_that_leaves_within_its_body_is_no_failure(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        with half_a_request(url):
            pass
        line = 'unclip_requests_total{route="/v1/tasks/embed",status="499"} 1.0'
        assert becomes(lambda: line in httpx.get(f"{url}/metrics").text.splitlines())


def test_a_client_that_leaves_a_stream_before_its_turn_ends_its_request(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        first = httpx.post(f"{url}/v1/tasks/text_to_image", json=LONG).headers["location"]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/images/generations", json={"prompt": "a dog", "stream": True}, timeout=0.5)
        last = "SELECT status FROM works ORDER BY created DESC LIMIT 1"
        assert becomes(lambda: sql(tmp_path, last) == [("cancelled",)])
        assert httpx.delete(f"{url}{first}").json()["status"] == "cancelled"


def test_an_end_that_cannot_be_noted_is_noted_later(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        place = httpx.post(f"{url}/v1/tasks/text_to_image", json={"prompts": "a cat", "num_steps": 60}).headers[
            "location"
        ]
        with httpx.stream("GET", f"{url}{place}/events", timeout=60) as response:
            events = events_of(response)
            while next(events)[0] != "progress":
                pass
            sql(tmp_path, "ALTER TABLE works RENAME TO away")
            *_, (kind, record) = events
        assert (kind, record["error"]["code"]) == ("failed", "storage_full")
        assert httpx.get(f"{url}{place}").status_code == 507
        sql(tmp_path, "ALTER TABLE away RENAME TO works")
        assert httpx.get(f"{url}{place}").json() == record
    assert sql(tmp_path, "SELECT status FROM works") == [("failed",)]


def test_what_cannot_be_noted_leaves_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path, None, 3600.0)
    sql(tmp_path, "DROP TABLE works")
    sql(tmp_path, "DROP TABLE results")
    with pytest.raises(SQLAlchemyError):
        store.save(b"content", ".png", "")
    with pytest.raises(SQLAlchemyError):
        store.begin("name", "", "embed", b"{}")
    store.close()
    assert not [*(tmp_path / "results").iterdir(), *(tmp_path / "requests").iterdir()]


def test_files_that_a_crash_left_are_removed_after_their_lifetime(tmp_path: Path) -> None:
    store = Store(tmp_path, None, 0.0)
    (tmp_path / "results" / ".half.png.1.tmp").write_bytes(b"half")
    store.sweep()
    store.close()
    assert not list((tmp_path / "results").iterdir())


def test_a_failed_history_is_counted_by_the_status_that_is_sent(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        sql(tmp_path, "DROP TABLE works")
        assert httpx.post(f"{url}/v1/tasks/embed", json=TEXT).status_code == 507
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert 'unclip_requests_total{route="/v1/tasks/embed",status="507"} 1.0' in lines


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_wherever_it_shows(number: int) -> None:
    error = explain(OSError(number, "no room", "/secret/place"))
    assert (error.status, error.code) == (507, "storage_full")
    assert "secret" not in str(error)


@pytest.mark.parametrize(("count", "image_size"), [(257, None), (1, (1_000_000, 1_000_000)), (1, 1_000_000)])
def test_a_draft_of_too_much_is_refused(
    pipe: UnClip, tmp_path: Path, count: int, image_size: int | tuple[int, int] | None
) -> None:
    made = Draft.of_embeddings(torch.zeros(count, pipe.need_clip.embedding_dim), seed=1)
    replace(made, image_size=image_size).save(tmp_path / "d")
    draft = base64.b64encode((tmp_path / "d").read_bytes()).decode()
    with running(pipe, tmp_path / "store") as url:
        answer = httpx.post(f"{url}/v1/tasks/finish", json={"draft": draft})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "draft")
