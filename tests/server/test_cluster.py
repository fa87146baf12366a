"""The command with two replicas on Ray: the same answers as one server, also where one is killed under load."""

import base64
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import psutil
import pytest

from live_server import opened, serving
from unclip.cli.main import run
from unclip.errors import InputError
from unclip.pipelines import UnClip
from unclip.server import ClusterConfig
from unclip.server.cluster import check_room

KEY = "a-key"
SECONDS = 120.0
STEPS = {"decoder": 40}
NUM_TASKS, NUM_CLIENTS = 16, 4


class Served(NamedTuple):
    """Two replicas, and what they serve."""

    url: str
    process: psutil.Process
    store: Path
    pipe: UnClip

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=SECONDS)

    def replicas(self) -> list[psutil.Process]:
        """Of this cluster alone."""
        below = self.process.children(recursive=True)
        return [one for one in below if one.is_running() and " ".join(one.cmdline()).startswith("ray::ServeReplica")]

    def history(self, query: str) -> list[Any]:
        connection = sqlite3.connect(self.store / "history.sqlite")
        rows = connection.execute(query).fetchall()
        connection.close()
        return rows


@pytest.fixture(scope="module")
def served(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        options = ("--replicas", "2", "--batch", "1", "--queue", "64")
        # Not by the warm server, since Ray's processes are to be this one's.
        with serving(tiny_folder, store, *options, keys=[KEY], program=[sys.executable]) as (url, process):
            one = Served(url, psutil.Process(process.pid), store, UnClip.load(tiny_folder))
            yield one
            stop(process, one)


def stop(process: "subprocess.Popen[str]", served: Served) -> None:
    """A signal ends all of it."""
    below = served.process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    _, left = psutil.wait_procs(below, SECONDS)
    assert not left


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives when it holds; connections and answers may fail on the way."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except (httpx.TransportError, psutil.NoSuchProcess):
            pass
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {SECONDS} seconds")


def ended(http: httpx.Client, place: str) -> dict[str, Any] | None:
    """How a task ended, if it has."""
    answer = http.get(place)
    record: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return record if record.get("status") in ("done", "failed", "cancelled") else None


def test_pictures_are_those_of_the_library(served: Served) -> None:
    (drawn,) = served.pipe.text_to_image("a cat", seed=7)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as client, served.http() as http:
        for _ in range(3):
            answer = client.images.generate(prompt="a cat", response_format="b64_json", extra_body={"seed": 7})
            assert answer.data is not None
            assert opened(base64.b64decode(answer.data[0].b64_json or "")).tobytes() == drawn.tobytes()
            place = http.post("/v1/tasks/text_to_image", json={"prompts": "a cat", "seed": 7}).headers["location"]
            with http.stream("GET", f"{place}/events") as response:
                assert "event: done" in list(response.iter_lines())
            (one,) = http.get(place).json()["data"]
            assert opened(http.get(one["url"]).content).tobytes() == drawn.tobytes()
        assert http.get("/v1/models", headers={"Authorization": "Bearer none"}).status_code == 401


def test_a_client_that_does_not_wait_ends_its_request(served: Served) -> None:
    body = {"prompt": "a cat", "n": 10, "num_inference_steps": 250}
    with served.http() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/v1/images/generations", json=body, timeout=0.5)
    until(lambda: served.history("SELECT name FROM works WHERE status = 'cancelled'"), "the request is cancelled")


def test_nothing_is_lost_where_a_replica_is_killed_under_load(served: Served) -> None:
    results_before = len(served.history("SELECT name FROM results"))
    killed, _ = until(lambda: len(found := served.replicas()) == 2 and found, "two replicas")
    (drawn,) = served.pipe.text_to_image("a cat", seed=7)

    def ask(_: int) -> list[bool]:
        """Ask again and again, as a client does that tries five times what failed on the server's side."""
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=5)
        with client:
            answers = [
                client.images.generate(prompt="a cat", response_format="b64_json", extra_body={"seed": 7})
                for _ in range(4)
            ]
        return [opened(base64.b64decode(one.data[0].b64_json)).tobytes() == drawn.tobytes() for one in answers]

    with served.http() as http, ThreadPoolExecutor(NUM_CLIENTS) as clients:
        body = {"prompts": "a cat", "num_steps": STEPS}
        accepted = [http.post("/v1/tasks/text_to_image", json={**body, "seed": seed}) for seed in range(NUM_TASKS)]
        assert {answer.status_code for answer in accepted} == {202}
        places = [answer.headers["location"] for answer in accepted]
        asking = clients.map(ask, range(NUM_CLIENTS))
        killed.send_signal(signal.SIGKILL)
        refused = [http.post("/v1/images/generations", json={"prompt": "a cat"}) for _ in range(6)]
        records = [until(lambda place=place: ended(http, place), "the task ends") for place in places]
        assert all(all(equal) for equal in asking)
        assert {answer.status_code for answer in refused} <= {200, 500, 503}
        assert [record["status"] for record in records] == ["done"] * NUM_TASKS
        for seed in (0, NUM_TASKS - 1):
            (picture,) = served.pipe.text_to_image("a cat", seed=seed, num_steps=STEPS)
            (one,) = records[seed]["data"]
            assert opened(http.get(one["url"]).content).tobytes() == picture.tobytes()
        names = "', '".join(place.rpartition("/")[2] for place in places)
        attempts = [count for (count,) in served.history(f"SELECT attempts FROM works WHERE name IN ('{names}')")]
        # Claimed once each; and drawn once each, but for the one whose end the killed replica could not note any more.
        assert set(attempts) == {1, 2}
        assert served.history("SELECT name FROM works WHERE status IN ('queued', 'running')") == []
        urls = sum(answer.status_code == 200 for answer in refused)
        num_drawn = len(served.history("SELECT name FROM results")) - results_before - urls
        assert NUM_TASKS <= num_drawn <= NUM_TASKS + 1
        until(lambda: len([one for one in served.replicas() if one.pid != killed.pid]) == 2, "two replicas again")
        until(lambda: http.get("/readyz").status_code == 200, "ready")


def test_a_model_that_does_not_exist_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--model", "none", "--store", str(tmp_path), "--port", "0", "--replicas", "2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_more_than_the_machine_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = ClusterConfig(num_replicas=2, gpus_per_replica=1.0)
    check_room({"CPU": 2.0, "GPU": 2.0}, cluster, is_local=True)
    with pytest.raises(InputError, match=r"^2 replicas need 2 GPUs, and there are 0; [^\n]*$"):
        check_room({"CPU": 2.0}, cluster, is_local=True)
    check_room({"CPU": 2.0}, cluster, is_local=False)
    assert "wait until the cluster grows" in capsys.readouterr().err
