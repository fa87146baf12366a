"""Claim: under load the server loses and mixes up nothing, keeps its memory, and outlives a kill and a full disk.

    python benchmarks/serve.py [--only memory kill]

The model `emoji`, `unclip serve` in a process of its own, clients on the same machine. `requests`: 200 requests of
every kind from 16 clients, each picture compared with the library's. `batching`: one by one against 8 together.
`memory`: the resident set over 3,000 requests. `kill`: kill -9 amid 50 accepted tasks. `disk`: a full disk (needs root,
which mounts a small one). `times`: start, first progress, one request against the library. `keys`: no key, a wrong one,
another's. With `--only` the other figures in the file stay as they are. All take about half an hour on two cores.
"""

import argparse
import json
import os
import random
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from serve_process import KEY, OTHER_KEY, busy_seconds, serving, small_disk
from serve_requests import (
    PROMPTS,
    SAME_LENGTH,
    Answer,
    Spec,
    ask,
    ask_all,
    compatible_specs,
    events_of,
    fetch,
    is_right,
    last_event,
    mixed_specs,
    quick_specs,
)  # fmt: skip

NUM_CLIENTS = 16
ONE = {"prompt": "a red apple", "size": "256x256", "seed": 7, "response_format": "b64_json"}


def main() -> None:
    """Run the sections, print the figures of each, and write all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve.json"))
    arguments = parser.parse_args()
    # As the command sets it for itself: else the library's threads would spin beside the server's.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from record import write_result

    figures = json.loads(arguments.out.read_text())["figures"] if arguments.out.exists() else {}
    for name in SECTIONS:
        if name in arguments.only:
            began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
            figures[name] = SECTIONS[name]()
            seconds = time.monotonic() - began
            others = (busy_seconds() - busy - (own_seconds() - own)) / seconds
            figures[name] |= {"took_seconds": round(seconds), "cores_used_by_others": round(max(others, 0.0), 2)}
            print(name, json.dumps(figures[name]), flush=True)
    write_result(arguments.out, {"figures": figures})


def own_seconds() -> float:
    """Seconds that this process and its children that have ended computed."""
    whos = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whos)


def library() -> Any:
    """The same model in this process."""
    from unclip import UnClip

    return UnClip.load("emoji", "cpu")


def measure_requests() -> dict[str, Any]:
    """100 different requests of every kind, each twice and in a random order: with the usual queue and a short one."""
    specs = mixed_specs(100, seed=1) * 2
    random.Random(3).shuffle(specs)
    pipe, figures = library(), {}
    for length in (32, 8):
        with serving("--queue", str(length)) as server:
            began = time.monotonic()
            answers = ask_all(server.url, KEY, specs, NUM_CLIENTS)
            seconds = time.monotonic() - began
        checked = dict[int, tuple[Spec, list[Answer]]]()
        for spec, answer in zip(specs, answers, strict=True):
            checked.setdefault(id(spec), (spec, []))[1].append(answer)
        num_wrong = sum(
            not is_right(pipe, spec, answer.pictures) for spec, both in checked.values() for answer in unequal(both)
        )
        times = statistics.quantiles([answer.seconds for answer in answers], n=100)
        num_pictures = sum(len(answer.pictures) for answer in answers)
        figures[f"queue {length}"] = {
            "requests": len(answers),
            "pictures": num_pictures,
            "lost": sum(answer.status != 200 or not answer.pictures for answer in answers),
            "wrong": num_wrong,
            "latency_seconds": {f"p{share}": round(times[share - 1], 2) for share in (50, 95, 99)},
            "images_per_second": round(num_pictures / seconds, 3),
            "requests_that_were_refused_first": sum(answer.num_refusals > 0 for answer in answers),
            "answers_429": sum(answer.num_refusals for answer in answers),
            "answers_429_without_retry_after": sum(answer.num_without_hint for answer in answers),
        }
    return figures


def unequal(answers: Sequence[Answer]) -> list[Answer]:
    """Leave out answers to one request with the very pictures of another."""
    return [
        answer for place, answer in enumerate(answers) if answer.pictures not in [a.pictures for a in answers[:place]]
    ]


def measure_batching() -> dict[str, Any]:
    """64 requests of the same settings, in four rounds that alternate between two servers."""
    result: dict[str, Any] = {"requests": 64, "steps": "those of quality low", "size": 256}
    pipe = library()
    for name, prompts in (("texts_of_one_length", SAME_LENGTH), ("texts_of_several_lengths", PROMPTS)):
        specs = compatible_specs(prompts, 64)
        seconds: dict[int, list[float]] = {1: [], 8: []}
        passes, wrong = {}, 0
        with serving("--batch", "1", "--queue", "64") as one, serving("--batch", "8", "--queue", "64") as eight:
            servers = {1: one, 8: eight}
            for server in servers.values():
                ask_all(server.url, KEY, specs[:1], 1)  # the first pass allocates
            for first in range(0, 64, 16):
                for batch, server in servers.items():
                    began = time.monotonic()
                    answers = ask_all(server.url, KEY, specs[first : first + 16], NUM_CLIENTS)
                    seconds[batch].append(time.monotonic() - began)
                    if batch == 8:
                        pairs = zip(specs[first : first + 16], answers, strict=True)
                        wrong += sum(not is_right(pipe, spec, answer.pictures) for spec, answer in pairs)
            for batch, server in servers.items():
                passes[batch] = round(64 / (server.figure("unclip_pass_images_count") - 1), 2)
        result[name] = {
            "images_per_second": {f"batch {batch}": round(64 / sum(times), 3) for batch, times in seconds.items()},
            "ratio": round(sum(seconds[1]) / sum(seconds[8]), 2),
            "ratio_of_each_round": [round(a / b, 2) for a, b in zip(seconds[1], seconds[8], strict=True)],
            "pictures_of_a_pass": {f"batch {batch}": mean for batch, mean in passes.items()},
            "wrong": wrong,
        }
    return result


def measure_memory() -> dict[str, Any]:
    """3,000 requests of every kind with one step each: the resident set and the open files on the way."""
    specs, memory, files = quick_specs(3000), dict[str, float](), dict[str, int]()
    with serving("--queue", "64") as server:
        lost, begin = 0, 0
        for end in (100, 250, 500, 750, 1000, 2000, 3000):
            lost += sum(answer.status != 200 for answer in ask_all(server.url, KEY, specs[begin:end], NUM_CLIENTS))
            begin = end
            time.sleep(15.0)  # at rest it gives back what it does not need
            memory[str(end)] = round(server.memory_bytes / 2**20, 1)
            files[str(end)] = server.num_open_files
    return {"lost": lost, "memory_mib_after": memory, "open_files_after": files}


def measure_kill() -> dict[str, Any]:
    """50 tasks are accepted, the server is killed after some of them and started again."""
    from unclip.pipelines import UnClip

    pipe: UnClip = library()
    bodies = [
        {"prompts": PROMPTS[seed % len(PROMPTS)], "seed": seed, "image_size": 128, "preset": "fast"}
        for seed in range(50)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        with serving("--queue", "64", store=store) as server, server.client() as http:
            places = [http.post("/v1/tasks/text_to_image", json=body).headers["location"] for body in bodies]
            for place in places[:10]:
                last_event(http, place)
        before = rows(store, "SELECT name FROM results")
        with serving("--queue", "64", store=store) as server, server.client() as http:
            ends = [last_event(http, place) for place in places]
            contents = [fetch(http, record.get("data", [])) for _, record in ends]
            drawn_again = server.figure("unclip_images_total")
        names = rows(store, "SELECT name FROM results")
        num_files = len(list((store / "results").iterdir()))
    kinds = [kind for kind, _ in ends]
    wrong = 0
    for body, pictures in zip(bodies, contents, strict=True):
        wrong += bool(pictures) and not is_right(pipe, Spec("", {}, "text_to_image", body), pictures)
    return {
        "accepted": len(places),
        "results_before_the_kill": len(before),
        "done": kinds.count("done"),
        "failed_and_reported": kinds.count("failed"),
        "drawn_after_the_start": int(drawn_again),
        "results": len(names),
        "files": num_files,
        "wrong": wrong,
    }


def rows(store: Path, query: str) -> list[Any]:
    """Read the history of a store."""
    with closing(sqlite3.connect(store / "history.sqlite")) as connection:
        return connection.execute(query).fetchall()


def measure_disk() -> dict[str, Any]:
    """A disk without room while requests come and while one is drawn; then there is room again."""
    with small_disk("4m") as folder:
        if folder is None:
            return {"skipped": "a small disk cannot be mounted here; it takes root"}
        store = folder / "store"
        with serving(store=store) as server, server.client() as http:
            body = {"prompts": "a red apple", "seed": 1, "image_size": 256}
            accepted = http.post("/v1/tasks/text_to_image", json=body).headers["location"]
            fill(folder / "filler")
            answers = [http.post("/v1/images/generations", json={"prompt": "a fox", "seed": seed}) for seed in range(3)]
            answers += [http.post("/v1/tasks/text_to_image", json=body) for _ in range(3)]
            end, _ = last_event(http, accepted)
            while_full = http.get(accepted).status_code
            (folder / "filler").unlink()
            after = http.post("/v1/images/generations", json={"prompt": "a fox", "size": "256x256", "seed": 1})
            is_shown = len(fetch(http, after.json()["data"])[0]) > 0
            status = http.get(accepted).json()["status"]
        ((integrity,),) = rows(store, "PRAGMA integrity_check")
        waiting = rows(store, "SELECT name FROM works WHERE status = 'queued'")
        results, noted = len(list((store / "results").iterdir())), len(rows(store, "SELECT name FROM results"))
    return {
        "statuses_while_full": [answer.status_code for answer in answers],
        "drawn_while_full": {"event": end, "asked_while_full": while_full, "asked_after": status},
        "status_when_there_is_room": after.status_code if is_shown else "no picture",
        "integrity_of_the_history": integrity,
        "without_an_end": len(waiting),
        "files_without_a_row": results - noted,
    }


def fill(path: Path) -> None:
    """Write a file until there is no room."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def measure_times() -> dict[str, Any]:
    """Start to ready, acceptance to first progress, and a request against the library, in turn."""
    starts, firsts, requests, calls = [], [], [], []
    for _ in range(3):
        with serving() as server:
            starts.append(server.start_seconds)
    pipe, same = library(), []
    with serving() as server, server.client() as http:
        for number in range(11):
            began = time.monotonic()
            answer = ask(http, Spec("images/generations", ONE, "text_to_image", {}))
            requests.append(time.monotonic() - began)
            began = time.monotonic()
            drawn = pipe.text_to_image("a red apple", seed=7, image_size=256)
            content = picture_file(drawn)
            calls.append(time.monotonic() - began)
            same.append(answer.pictures == [content])
            place = http.post("/v1/tasks/text_to_image", json={"prompts": "a fox", "seed": number}).headers["location"]
            firsts.append(seconds_to_progress(events_of(http, place)))
            last_event(http, place)
    return {
        "start_seconds": round(statistics.median(starts), 2),
        "first_progress_seconds": round(statistics.median(firsts[1:]), 3),
        "request_seconds": round(statistics.median(requests[1:]), 3),
        "library_seconds": round(statistics.median(calls[1:]), 3),
        "ratio": round(statistics.median(a / b for a, b in zip(requests[1:], calls[1:], strict=True)), 3),
        "same_bytes": all(same),
    }


def picture_file(result: Any) -> bytes:
    """The PNG that the library writes of a result with one picture."""
    from unclip.images import encode_picture

    content: bytes = encode_picture(result.images[0], ".png", result.metadata(0))
    return content


def seconds_to_progress(events: Iterator[tuple[str, Any]]) -> float:
    """Seconds to the first step that is said to be done."""
    began = time.monotonic()
    for kind, _ in events:
        if kind == "progress":
            return time.monotonic() - began
    raise AssertionError("a task that said nothing of its progress")


def measure_keys() -> dict[str, Any]:
    """Requests without a key, with a wrong one, and for what another key drew."""
    with serving() as server, server.client() as http, server.client(OTHER_KEY) as other:
        answer = http.post("/v1/images/generations", json=ONE | {"response_format": "url", "size": "128x128"})
        result = answer.json()["data"][0]["url"]
        task = http.post("/v1/tasks/embed", json={"inputs": {"text": "a fox"}}).headers["location"]
        last_event(http, task)
        before = server.figure("unclip_images_total"), server.figure("unclip_pass_images_count")
        statuses: dict[str, list[int]] = {"without a key": [], "with a wrong key": []}
        for name, key in (("without a key", None), ("with a wrong key", "wrong")):
            with server.client(key) as client:
                for method, path in ROUTES:
                    statuses[name].append(
                        client.request(method, path, json=ONE if method == "POST" else None).status_code
                    )
        others = [other.get(result), other.get(task), other.get(f"{task}/events"), other.delete(task)]
        after = server.figure("unclip_images_total"), server.figure("unclip_pass_images_count")
        own = http.get(result).status_code
    return {
        **{name: sorted(set(values)) for name, values in statuses.items()},
        "another_key": sorted({answer.status_code for answer in others}),
        "own_key": own,
        "nothing_was_drawn": before == after,
    }


ROUTES: tuple[tuple[str, str], ...] = (
    ("POST", "/v1/images/generations"), ("POST", "/v1/images/edits"), ("POST", "/v1/images/variations"),
    ("POST", "/v1/tasks/text_to_image"), ("GET", "/v1/models"), ("GET", "/v1/results/any.png"), ("GET", "/metrics"),
    ("GET", "/openapi.json"),
)  # fmt: skip
SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "keys": measure_keys,
    "times": measure_times,
    "disk": measure_disk,
    "kill": measure_kill,
    "memory": measure_memory,
    "batching": measure_batching,
    "requests": measure_requests,
}

if __name__ == "__main__":
    main()
