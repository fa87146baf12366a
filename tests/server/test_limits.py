"""What happens where there is no room or no time: refused with the right status, and nothing is left behind."""

import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from live_server import events_of, opened, png, running
from unclip.config import load_config
from unclip.errors import InputError
from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS
from unclip.server import KeyLimits, read_key_limits
from unclip.server.tasks import request_model

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


def test_a_key_may_have_limits_of_its_own(pipe: UnClip, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(
        "[guest]\nrequests_per_minute = 15\nmax_pixels = 300\nmax_steps = 5\nmax_body_bytes = 4_000\n['second key']\n"
    )
    limits = read_key_limits(str(tmp_path / "keys.toml"))
    small, large = (base64.b64encode(png(Image.new("RGB", (side, side)))).decode() for side in (16, 32))
    with running(pipe, tmp_path, api_keys=("one",), key_limits=limits, requests_per_minute=20) as url:

        def ask(key: str, route: str, **body: Any) -> httpx.Response:
            return httpx.post(f"{url}/v1/{route}", headers={"Authorization": f"Bearer {key}"}, json=body, timeout=60)

        for key, status in (("guest", 400), ("second key", 200), ("one", 200)):
            assert ask(key, "images/generations", prompt="a cat", size="32x32").status_code == status
            assert ask(key, "images/variations", image=large).status_code == status
            assert ask(key, "tasks/text_to_image", prompts="a cat", image_size=32).status_code == (
                202 if status == 200 else 400
            )
        # What is not said is as large as it may be.
        for key, side in (("guest", 16), ("one", 32)):
            answer = ask(key, "images/generations", prompt="a cat", response_format="b64_json").json()
            assert answer["size"] == f"{side}x{side}"
        assert ask("guest", "images/variations", image=small).status_code == 200
        for key, statuses in (("guest", (400, 400, 400)), ("one", (200, 202, 202))):
            answers = (
                ask(key, "images/generations", prompt="a cat", num_inference_steps=6, size="16x16"),
                ask(key, "tasks/text_to_image", prompts="a cat", num_steps={"decoder": 6}, image_size=16),
                ask(key, "tasks/outpaint", image=small, aspect=[2, 1], num_steps=2, image_size=16),
            )
            assert tuple(answer.status_code for answer in answers) == statuses
        assert ask("guest", "images/generations", prompt="a" * 4_000).status_code == 413
        assert ask("one", "images/generations", prompt="a" * 4_000, size="16x16").status_code == 200
        statuses = [ask("guest", "tasks/embed", inputs={"text": "a cat"}).status_code for _ in range(7)]
        assert statuses == [202] * 6 + [429]
        assert ask("third", "tasks/embed", inputs={"text": "a cat"}).status_code == 401


def test_a_key_with_fewer_pixels_than_any_size_is_told_so(pipe: UnClip, tmp_path: Path) -> None:
    limits = {"guest": load_config(KeyLimits, {"max_pixels": 255})}
    with running(pipe, tmp_path, key_limits=limits) as url:
        headers = {"Authorization": "Bearer guest"}
        answer = httpx.post(f"{url}/v1/images/generations", headers=headers, json={"prompt": "a cat"})
        assert answer.status_code == 403
        assert "255" in answer.json()["error"]["message"]


@pytest.mark.parametrize("task", TASKS)
def test_every_list_of_a_request_has_an_end(task: str) -> None:
    endless = [
        schema
        for schema in schemas_in(request_model(task).model_json_schema())
        if schema.get("type") == "array" and "maxItems" not in schema and schema["items"].get("type") != "number"
    ]
    assert endless == []


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings within a document."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield value
    for one in values:
        yield from schemas_in(one)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secret", "no TOML"), ("secret = 5", "key 1 "), ("[secret]\nmax_pixels = 0", "max_pixels"),
        ("[a]\n[secret]\nmost = 1", "key 2 "), (None, "cannot be read"), ("\0", "no TOML"), ("['']", "key 1 "),
    ],
)  # fmt: skip
def test_a_file_of_keys_that_is_wrong_is_one_line_without_a_key(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_key_limits(str(tmp_path / "keys.toml"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


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
