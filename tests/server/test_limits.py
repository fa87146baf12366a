"""What happens where there is no room or no time: refused with the right status, and nothing is left behind."""

import sqlite3
from pathlib import Path

import httpx
import pytest

from live_server import events_of, opened, running
from unclip.pipelines import UnClip

LONG = {"prompts": "a cat", "num_images": 16, "num_steps": 1000}


def history(store: Path) -> list[str]:
    """How the requests ended, in their order."""
    connection = sqlite3.connect(store / "history.sqlite")
    rows = connection.execute("SELECT status FROM works ORDER BY created").fetchall()
    connection.close()
    return [status for (status,) in rows]


def test_a_full_queue_is_said_with_when_to_come_back(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path, queue_length=1) as url, httpx.Client(base_url=url, timeout=60) as http:
        first = http.post("/v1/tasks/text_to_image", json=LONG).headers["location"]
        with http.stream("GET", f"{first}/events") as response:
            events = events_of(response)
            while next(events)[0] == "queued":
                pass
            second = http.post("/v1/tasks/text_to_image", json=LONG).headers["location"]
            for path, body in (("images/generations", {"prompt": "a cat"}), ("tasks/text_to_image", LONG)):
                refused = http.post(f"/v1/{path}", json=body)
                assert refused.status_code == 429
                assert refused.json()["error"]["code"] == "queue_full"
                assert int(refused.headers["retry-after"]) >= 1
            # What waits makes room at once.
            assert http.delete(second).json()["status"] == "cancelled"
            third = http.post("/v1/tasks/text_to_image", json={"prompts": "a cat", "seed": 1})
            assert third.status_code == 202
            assert http.delete(first).json()["status"] == "cancelled"
        with http.stream("GET", f"{third.headers['location']}/events") as response:
            *_, (kind, record) = events_of(response)
        assert kind == "done"
        (drawn,) = pipe.text_to_image("a cat", seed=1)
        assert opened(http.get(record["data"][0]["url"]).content).tobytes() == drawn.tobytes()
        assert not list((tmp_path / "requests").iterdir())


def test_each_key_may_ask_so_often(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path, api_keys=("one", "two"), requests_per_minute=2) as url:
        for key in ("one", "two"):
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
                for status in (202, 202, 429):
                    answer = http.post("/v1/tasks/embed", json={"inputs": {"text": "a cat"}})
                    assert answer.status_code == status
                assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert http.get("/v1/models").status_code == 200


def test_a_client_that_leaves_a_stream_ends_its_request(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        body = {"prompt": "a cat", "n": 2, "num_inference_steps": 250, "stream": True, "partial_images": 3}
        with http.stream("POST", "/v1/images/generations", json=body) as response:
            assert next(events_of(response))[0] == "image_generation.partial_image"
        assert http.post("/v1/images/generations", json={"prompt": "a dog", "size": "16x16"}).status_code == 200
    assert history(tmp_path) == ["cancelled", "done"]


def test_a_client_that_does_not_wait_ends_its_request(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        body = {"prompt": "a cat", "n": 10, "num_inference_steps": 250}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/images/generations", json=body, timeout=0.5)
        assert http.post("/v1/images/generations", json={"prompt": "a dog", "size": "16x16"}).status_code == 200
    assert history(tmp_path) == ["cancelled", "done"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_fails(pipe: UnClip, tmp_path: Path, stream: bool) -> None:
    with running(pipe, tmp_path, timeout_seconds=0.2) as url:
        body = {"prompt": "a cat", "n": 10, "num_inference_steps": 250, "stream": stream}
        with httpx.stream("POST", f"{url}/v1/images/generations", json=body, timeout=60) as answer:
            # A stream that has begun has no other status; its last event says what happened.
            if answer.status_code == 200:
                assert stream
                *_, (kind, error) = events_of(answer)
                assert kind == "error"
            else:
                answer.read()
                error = answer.json()
                assert answer.status_code == 504
            assert error["error"]["code"] == "timeout"


def test_figures_count_answers_and_pictures(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.post("/v1/images/generations", json={"prompt": "a cat", "n": 2, "size": "16x16"}).status_code == 200
        assert http.post("/v1/images/generations", json={}).status_code == 400
        lines = http.get("/metrics").text.splitlines()
    for status in (200, 400):
        assert f'unclip_requests_total{{route="/v1/images/generations",status="{status}"}} 1.0' in lines
    assert "unclip_images_total 2.0" in lines
    assert "unclip_waiting_requests 0.0" in lines


def test_a_model_without_alpha_draws_no_clear_background(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": "a cat", "background": "transparent"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "background")


@pytest.mark.parametrize("folder", ["results", "requests"])
def test_a_store_without_room_is_said_so(pipe: UnClip, tmp_path: Path, folder: str) -> None:
    with running(pipe, tmp_path) as url:
        (tmp_path / folder).rmdir()
        (tmp_path / folder).write_text("in the way")
        if folder == "results":
            answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": "a cat", "size": "16x16"}, timeout=60)
        else:
            answer = httpx.post(f"{url}/v1/tasks/embed", json={"inputs": {"text": "a cat"}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    assert str(tmp_path) not in answer.text


def test_a_history_that_cannot_be_written_refuses_what_it_would_lose(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path) as url:
        with sqlite3.connect(tmp_path / "history.sqlite") as connection:
            connection.execute("DROP TABLE works")
        connection.close()
        for path, body in (("images/generations", {"prompt": "a cat"}), ("tasks/embed", {"inputs": {"text": "a cat"}})):
            answer = httpx.post(f"{url}/v1/{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
        assert httpx.get(f"{url}/readyz").status_code == 200
