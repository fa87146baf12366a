"""A route for every task: its pictures are the library's, progress arrives as events, and it can be cancelled."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from live_server import events_of, opened, png, running
from unclip.model.basis import EmbeddingBasis
from unclip.pipelines import Draft, UnClip
from unclip.pipelines.options import TASKS, describe
from unclip.server.store import Store
from unclip.server.tasks import NOT_SENT

PHOTO = Image.linear_gradient("L").convert("RGB").resize((40, 40))
MASK = Image.new("L", (40, 40))
MASK.paste(255, (10, 10, 30, 30))


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def of_file(value: Any, folder: Path) -> str:
    """A draft or a basis as a request has it."""
    value.save(folder / "value.safetensors")
    return encoded((folder / "value.safetensors").read_bytes())


PICTURE, TEXT = {"picture": encoded(png(PHOTO))}, {"text": "a red apple"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # What is sent, and what the library gets for it.
    "text_to_image": (
        {"prompts": ["a cat", "a dog"], "num_images": 2, "seed": 1, "num_steps": {"decoder": 2}},
        {"prompts": ["a cat", "a dog"], "num_images": 2, "seed": 1, "num_steps": {"decoder": 2}},
    ),
    "image_variations": (
        {"images": encoded(png(PHOTO)), "seed": [4, 9], "num_images": 2},
        {"images": PHOTO, "seed": [4, 9], "num_images": 2},
    ),
    "image_to_image": (
        {"images": encoded(png(PHOTO)), "prompt": "a cat", "strength": 0.5, "seed": 1, "background": "transparent"},
        {"images": PHOTO, "prompt": "a cat", "strength": 0.5, "seed": 1, "background": "transparent"},
    ),
    "inpaint": (
        {"image": encoded(png(PHOTO)), "mask": f"data:image/png;base64,{encoded(png(MASK))}", "seed": 1},
        {"image": PHOTO, "mask": MASK, "seed": 1},
    ),
    "outpaint": (
        {"image": encoded(png(PHOTO)), "aspect": [2, 1], "seed": 1},
        {"image": PHOTO, "aspect": (2, 1), "seed": 1},
    ),
    "interpolate": (
        {"a": TEXT, "b": PICTURE, "frames": 3, "seed": 1},
        {"a": "a red apple", "b": PHOTO, "frames": 3, "seed": 1},
    ),
    "mix": (
        {"parts": [TEXT | {"weight": 0.7}, PICTURE], "seed": 1},
        {"parts": [("a red apple", 0.7), (PHOTO, 1.0)], "seed": 1},
    ),
    "text_diff": (
        {"image": encoded(png(PHOTO)), "source": "a cat", "target": "a dog", "theta": [0, 0.3], "seed": 1},
        {"image": PHOTO, "source": "a cat", "target": "a dog", "theta": [0, 0.3], "seed": 1},
    ),
    "upscale": ({"images": encoded(png(PHOTO)), "size": 64, "seed": 1}, {"images": PHOTO, "size": 64, "seed": 1}),
    "unconditional": ({"seed": 1, "image_size": 16}, {"seed": 1, "image_size": 16}),
}


def finished(http: httpx.Client, task: str, body: dict[str, Any]) -> dict[str, Any]:
    """Run a task and return the record of its end, as its events and its state say."""
    accepted = http.post(f"/v1/tasks/{task}", json=body)
    assert accepted.status_code == 202, accepted.text
    place = accepted.headers["location"]
    assert place == f"/v1/tasks/{accepted.json()['id']}"
    with http.stream("GET", f"{place}/events") as response:
        *_, (kind, record) = events_of(response)
    assert kind == record["status"]
    assert http.get(place).json() == record
    return record


@pytest.mark.parametrize("task", CASES)
def test_a_task_draws_what_the_library_draws(http: httpx.Client, clear_pipe: UnClip, task: str) -> None:
    body, arguments = CASES[task]
    record = finished(http, task, body)
    result = TASKS[task].function(clear_pipe, **arguments)
    assert record["status"] == "done", record
    assert [one["seed"] for one in record["data"]] == result.seeds
    assert record["settings"] == json.loads(json.dumps(result.settings))
    for one, drawn in zip(record["data"], result.pictures(), strict=True):
        picture = opened(http.get(one["url"]).content)
        assert (picture.mode, picture.tobytes()) == (drawn.mode, drawn.tobytes())


def test_every_task_is_tested_here() -> None:
    assert CASES.keys() | {"embed", "decode", "draft", "advance", "finish", "fit_basis", "probe"} == TASKS.keys()


def test_embeddings_go_out_and_come_in(http: httpx.Client, clear_pipe: UnClip) -> None:
    rows = finished(http, "embed", {"inputs": [TEXT, PICTURE]})["embeddings"]
    torch.testing.assert_close(torch.tensor(rows), clear_pipe.embed(["a red apple", PHOTO]), rtol=0, atol=0)
    record = finished(http, "decode", {"image_embedding": rows, "seed": 1})
    drawn = clear_pipe.decode(np.array(rows, dtype=np.float32), seed=1).pictures()
    contents = [opened(http.get(one["url"]).content).tobytes() for one in record["data"]]
    assert contents == [picture.tobytes() for picture in drawn]


def test_drafts_go_out_and_come_in(http: httpx.Client, clear_pipe: UnClip, tmp_path: Path) -> None:
    record = finished(http, "draft", {"prompts": "a cat", "seed": 1, "stop_after": "prior"})
    draft = http.get(record["data"][0]["url"]).content
    record = finished(http, "advance", {"draft": encoded(draft), "stop_after": "decoder"})
    further = http.get(record["data"][0]["url"]).content
    (tmp_path / "further.safetensors").write_bytes(further)
    assert list(Draft.load(tmp_path / "further.safetensors").done) == ["prior", "decoder"]
    (one,) = finished(http, "finish", {"draft": encoded(further)})["data"]
    (drawn,) = clear_pipe.text_to_image("a cat", seed=1)
    assert opened(http.get(one["url"]).content).tobytes() == drawn.tobytes()


def test_a_basis_goes_out_and_comes_in(http: httpx.Client, clear_pipe: UnClip, tmp_path: Path) -> None:
    pictures = [PHOTO, PHOTO.rotate(90), MASK.convert("RGB")]
    record = finished(http, "fit_basis", {"pictures": [encoded(png(picture)) for picture in pictures]})
    content = http.get(record["data"][0]["url"]).content
    (tmp_path / "basis.safetensors").write_bytes(content)
    basis = EmbeddingBasis.load(tmp_path / "basis.safetensors")
    torch.testing.assert_close(basis.components, clear_pipe.fit_basis(pictures).components, rtol=0, atol=0)
    body = {"image": encoded(png(PHOTO)), "num_components": [1, 4], "basis": encoded(content), "seed": 1}
    record = finished(http, "probe", body)
    drawn = clear_pipe.probe(PHOTO, [1, 4], basis=basis, seed=1).pictures()
    contents = [opened(http.get(one["url"]).content).tobytes() for one in record["data"]]
    assert contents == [picture.tobytes() for picture in drawn]


def test_a_series_may_be_an_animation(http: httpx.Client) -> None:
    (one,) = finished(http, "interpolate", {"a": TEXT, "b": TEXT, "frames": 3, "output_format": "gif"})["data"]
    answer = http.get(one["url"])
    assert answer.headers["content-type"] == "image/gif"
    assert opened(answer.content).format == "GIF"


def test_progress_is_that_of_the_stages(http: httpx.Client) -> None:
    accepted = http.post("/v1/tasks/text_to_image", json={"prompts": "a cat", "num_steps": {"decoder": 30}})
    with http.stream("GET", f"{accepted.headers['location']}/events") as response:
        events = list(events_of(response))
    steps = [data for kind, data in events if kind == "progress" and data["stage"] == "decoder"]
    assert steps
    assert all(step["total"] == 30 for step in steps)
    assert [step["done"] for step in steps] == sorted({step["done"] for step in steps})
    assert events[-1][0] == "done"


def test_a_task_can_be_cancelled(http: httpx.Client) -> None:
    body = {"prompts": "a cat", "num_images": 16, "num_steps": 1000}
    place = http.post("/v1/tasks/text_to_image", json=body).headers["location"]
    with http.stream("GET", f"{place}/events") as response:
        events = events_of(response)
        assert next(events)[0] in ("queued", "running", "progress")
        assert http.delete(place).json()["status"] == "cancelled"
        assert [kind for kind, _ in events][-1] == "cancelled"
    assert http.delete(place).json()["status"] == http.get(place).json()["status"] == "cancelled"


def test_a_task_of_another_key_does_not_exist(http: httpx.Client) -> None:
    record = finished(http, "embed", {"inputs": TEXT})
    other = {"Authorization": "Bearer another key"}
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        answer = http.request(method, f"/v1/tasks/{record['id']}{path}", headers=other)
        assert answer.status_code == 404
    assert http.get("/v1/tasks/none").status_code == 404


@pytest.mark.parametrize(
    ("task", "body", "param"),
    [
        ("text_to_image", {}, "prompts"),
        ("text_to_image", {"prompts": "a cat", "num_images": 17}, "num_images"),
        ("text_to_image", {"prompts": [], "seed": 1}, "prompts"),
        ("text_to_image", {"prompts": "a cat", "sampler": "none"}, "sampler"),
        ("text_to_image", {"prompts": "a cat", "image_size": [100_000, 100_000]}, "image_size"),
        ("image_variations", {"images": "no base64"}, "images"),
        ("image_variations", {"images": encoded(b"no picture")}, "images"),
        ("image_variations", {"images": encoded(png(PHOTO)), "eta": 2}, "eta"),
        ("finish", {"draft": encoded(b"no draft")}, "draft"),
        ("decode", {"image_embedding": [[1.0], [1.0, 2.0]]}, "image_embedding"),
        ("embed", {"inputs": {"text": ""}}, "inputs"),
        ("interpolate", {"a": TEXT, "b": TEXT, "frames": 10_000}, "frames"),
        ("interpolate", {"a": TEXT, "b": TEXT, "background": "transparent", "output_format": "gif"}, "background"),
    ],
)
def test_a_refused_value_is_named(http: httpx.Client, task: str, body: dict[str, Any], param: str) -> None:
    answer = http.post(f"/v1/tasks/{task}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_the_library_refuses_is_the_end_of_the_task(http: httpx.Client) -> None:
    record = finished(http, "text_to_image", {"prompts": "a cat", "image_size": 77})
    assert record["status"] == "failed"
    assert "77" in record["error"]["message"]


def test_the_document_describes_every_option_of_every_task(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for task in TASKS:
        assert f"/v1/tasks/{task}" in document["paths"]
        properties = schemas[f"{task}_request"]["properties"]
        options = {option.name: option.help for option in describe(task) if option.name not in NOT_SENT}
        assert {name: properties[name]["description"] for name in options} == options
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= schemas.keys()
    assert {"GenerationFields", "EditFields", "VariationFields"} <= names


def test_what_was_accepted_is_finished_or_reported_after_a_crash(clear_pipe: UnClip, tmp_path: Path) -> None:
    store = Store(tmp_path, None, 3600.0, lease_seconds=0.0)
    store.begin("has-no-body", "", "text_to_image", None)
    store.begin("is-damaged", "", "text_to_image", b'{"seed": 3}')
    store.begin("crashes", "", "text_to_image", b'{"prompts": "a dog"}')
    for _ in range(2):
        assert {work.name for work, _ in store.interrupted()} >= {"crashes"}
    store.begin("finishes", "", "text_to_image", b'{"prompts": "a dog", "seed": 1}')
    store.close()
    ends = {}
    with running(clear_pipe, tmp_path, queue_length=1, lease_seconds=0.5) as url:
        for name in ("has-no-body", "is-damaged", "crashes", "finishes"):
            with httpx.stream("GET", f"{url}/v1/tasks/{name}/events", timeout=60) as response:
                *_, (_, ends[name]) = events_of(response)
        content = httpx.get(ends["finishes"]["data"][0]["url"]).content
    kinds = {name: record["status"] for name, record in ends.items()}
    assert kinds == dict.fromkeys(("has-no-body", "is-damaged", "crashes"), "failed") | {"finishes": "done"}
    (drawn,) = clear_pipe.text_to_image("a dog", seed=1)
    assert opened(content).tobytes() == drawn.tobytes()
    assert not list((tmp_path / "requests").iterdir())


def test_results_and_history_are_removed_after_their_lifetime(tmp_path: Path) -> None:
    store = Store(tmp_path, None, 0.0)
    name = store.save(b"content", ".png", "")
    store.begin("ended", "", "embed", None)
    store.end("ended", "done", {})
    assert store.find(name, "") is None
    store.sweep()
    assert store.read("ended", "") is None
    assert not list((tmp_path / "results").iterdir())
    store.close()
