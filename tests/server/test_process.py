"""The command: what was accepted outlives a kill, a signal stops it, and no prompt is written to its log."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from live_server import events_of, opened, serving
from unclip.cli.main import run
from unclip.pipelines import UnClip

PROMPT = "a cat with sunglasses"
KEY = "a-key"


def task(http: httpx.Client, **body: Any) -> str:
    return str(http.post("/v1/tasks/text_to_image", json={"prompts": PROMPT, **body}).headers["location"])


def test_what_was_accepted_outlives_a_kill(tiny_folder: Path, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with serving(tiny_folder, tmp_path, keys=[KEY]) as (url, process):
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            long = task(http, num_images=16, num_steps=1000)
            places = [task(http, seed=seed) for seed in range(4)]
        process.kill()
        process.wait()
    with serving(tiny_folder, tmp_path, "--audit", str(tmp_path / "audit.jsonl"), keys=[KEY]) as (url, process):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            assert http.delete(long).json()["status"] == "cancelled"
            pipe = UnClip.load(tiny_folder)
            for seed, place in enumerate(places):
                with http.stream("GET", f"{place}/events") as response:
                    *_, (kind, record) = events_of(response)
                assert kind == "done"
                (one,) = record["data"]
                (drawn,) = pipe.text_to_image(PROMPT, seed=seed)
                assert opened(http.get(one["url"]).content).tobytes() == drawn.tobytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
        assert process.stderr is not None
        assert PROMPT not in process.stderr.read()
    assert len(list((tmp_path / "results").iterdir())) == len(places)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert lines[0].keys() == {"time", "key", "method", "route", "status", "seconds"}
    answers = [(line["method"], line["route"], line["status"]) for line in lines]
    assert answers[:2] == [("GET", "none", 401), ("DELETE", "/v1/tasks/{name}", 200)]
    assert [bool(line["key"]) for line in lines] == [False] + [True] * (len(lines) - 1)


def test_texts_are_in_the_audit_where_that_is_asked_for(tiny_folder: Path, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(tiny_folder, tmp_path, "--audit", str(audit), "--audit-texts") as (url, _):
        body = {"prompt": PROMPT, "negative_prompt": "a dog", "size": "16x16"}
        assert httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).status_code == 200
        lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [sorted(line["texts"]) for line in lines if "texts" in line] == [sorted([PROMPT, "a dog"])]
    assert run(["serve", "--model", str(tiny_folder), "--audit-texts"]) == 2


def test_a_stop_ends_what_is_open_and_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    """What waits for an answer is told at once, streams have a last event, and no page holds the server up."""
    with serving(tiny_folder, tmp_path) as (url, process), httpx.Client(base_url=url, timeout=60) as http:
        places = [task(http, num_images=16, num_steps=1000) for _ in range(2)]
        with (
            ThreadPoolExecutor() as pool,
            http.stream("GET", f"{places[0]}/events") as drawn,
            http.stream("GET", f"{places[1]}/events") as waiting,
            http.stream("GET", "/gradio_api/heartbeat/a") as page,
        ):
            assert page.status_code == 200
            events, others = events_of(drawn), events_of(waiting)
            while next(events)[0] != "progress":
                pass
            asked = pool.submit(httpx.post, f"{url}/v1/images/generations", json={"prompt": "a cat"}, timeout=60)
            while "unclip_waiting_requests 2.0" not in httpx.get(f"{url}/metrics").text:
                time.sleep(0.01)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert [kind for kind, _ in events][-1] == "stopping"
            assert [kind for kind, _ in others] == ["queued", "stopping"]
            b"".join(page.iter_raw())
            answer = asked.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
        assert process.wait(60) == 130
        assert time.monotonic() - began < 25  # and not the 30 seconds of what does not end
        assert process.stderr is not None
        assert [line.partition(";")[0] for line in process.stderr.read().splitlines()] == ["stopping", "stopped"]
    with serving(tiny_folder, tmp_path) as (url, process), httpx.Client(base_url=url, timeout=60) as http:
        assert [http.delete(place).json()["status"] for place in places] == ["cancelled"] * 2


def test_a_second_interrupt_ends_it_at_once(tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path) as (url, process), httpx.Client(base_url=url, timeout=60) as http:
        body = {"prompt": "a cat", "n": 10, "num_inference_steps": 1000, "stream": True}
        with http.stream("POST", "/v1/images/generations", json=body) as drawn:
            next(drawn.iter_raw())
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert process.stderr.readline().startswith("stopping; ")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stderr.read() == "stopped at once\n"


def test_the_studio_shows_no_file_of_another_key(tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path, keys=["one", "two"]) as (url, _):
        headers = {"Authorization": "Bearer one"}
        httpx.post(f"{url}/v1/images/generations", headers=headers, json={"prompt": "a cat"}, timeout=60)
        (path,) = (tmp_path / "results").iterdir()
        answers = [httpx.get(f"{url}/gradio_api/file={path}", auth=("any", key), timeout=60) for key in ("one", "two")]
        assert [answer.status_code for answer in answers] == [200, 404]
        assert answers[0].content == path.read_bytes()
        for end in ("/", "/.", "//", "/a/.."):
            answer = httpx.get(f"{url}/gradio_api/file={path}{end}", auth=("any", "two"), timeout=60)
            assert answer.status_code >= 400


def test_a_port_that_is_taken_is_one_line(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tiny_folder, tmp_path / "first", keys=[KEY]) as (url, _):
        port = url.rpartition(":")[2]
        code = run(["serve", "--model", str(tiny_folder), "--store", str(tmp_path / "second"), "--port", port])
    assert code == 2
    assert (
        capsys.readouterr().err
        == f"unclip: port {port} of 127.0.0.1 is taken; give another --port, 0 for any free one.\n"
    )


@pytest.mark.parametrize(
    "options", [["--lifetime", "0"], ["--queue", "0"], ["--database", "none://here"], ["--model", "none"]]
)
def test_settings_that_cannot_be_are_one_line(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert run(["serve", "--model", str(tiny_folder), "--store", str(tmp_path), "--port", "0", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec@re:t/", "secr/@et"])
def test_no_error_shows_the_password_of_the_database(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], password: str
) -> None:
    for driver in ("none", "postgresql+psycopg"):
        words = ["--database", f"{driver}://user:{password}@here.invalid:99999/history", "--store", str(tmp_path)]
        assert run(["serve", "--model", str(tiny_folder), "--port", "0", *words]) == 2
        assert f"{driver}://user:***@here.invalid:99999/history cannot" in (error := capsys.readouterr().err)
        assert not any(part in error for part in (password, "secr", "et@", "ret@", "re:t"))
        assert error.count("\n") == 1
