"""Whatever is sent, the answer is a picture or a refusal in the API's form; the server never fails and never hangs."""

import base64
import inspect
import json
import random
import socket
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from PIL import Image

from live_server import png
from unclip.pipelines.options import TASKS, describe
from unclip.server.fields import EditFields, GenerationFields
from unclip.server.tasks import request_model

ENCODED = base64.b64encode(png(Image.new("RGBA", (8, 8), "#ff000080"))).decode()
ODD: list[Any] = [
    None, True, -1, 0, 2**70, 1e400, float("nan"), "", " ", "\ud800", "\0", "auto", "16x16", "0x0", "../../etc/passwd",
    [], {}, [[]], [None], {"": {}}, {"text": "a"}, {"picture": "a"}, {"prior": 1}, "data:image/png;base64,",
    "http://127.0.0.1:1/", ENCODED, [ENCODED] * 2, {"picture": ENCODED}, [{"text": "a", "weight": 0}],
]  # fmt: skip
CHEAP = {"prompt": "a cat", "size": "16x16", "image": ENCODED, "n": 1, "num_inference_steps": 1}
VALID = {
    "text": "a cat", "picture": ENCODED, "text or picture": {"text": "a cat"}, "weighted parts": [{"text": "a cat"}],
    "embedding": [0.5] * 32, "draft": ENCODED,
}  # fmt: skip
COUNT = 60
"""Requests of each test. Not by hypothesis: it takes draws of the server's threads for its own."""


def odd_fields(numbers: random.Random, names: Sequence[str]) -> dict[str, Any]:
    """A few fields with values that they rarely have."""
    return {numbers.choice([*names, "none\u00e9"]): numbers.choice(ODD) for _ in range(numbers.randrange(4))}


def assert_form(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"].keys() == {"type", "code", "param", "message"}


@pytest.mark.parametrize(("route", "fields"), [("generations", GenerationFields), ("edits", EditFields)])
def test_odd_fields_of_the_images_api(http: httpx.Client, route: str, fields: type[GenerationFields]) -> None:
    numbers, statuses = random.Random(1), set()
    for _ in range(COUNT):
        body = CHEAP | odd_fields(numbers, list(fields.model_fields))
        headers = {"Content-Type": "application/json"}
        answer = http.post(f"/v1/images/{route}", content=json.dumps(body), headers=headers)
        assert_form(answer)
        statuses.add(answer.status_code)
    assert {200, 400} <= statuses


def test_odd_options_of_tasks(http: httpx.Client) -> None:
    numbers, statuses = random.Random(2), set()
    for _ in range(4 * COUNT):
        task = numbers.choice(sorted(TASKS))
        needed = {
            one.name: VALID[one.kind or "text"] for one in describe(task) if one.default is inspect.Parameter.empty
        }
        body = needed | odd_fields(numbers, list(request_model(task).model_fields))
        answer = http.post(f"/v1/tasks/{task}", content=json.dumps(body))
        assert_form(answer)
        statuses.add(answer.status_code)
        if answer.status_code == 202:
            assert http.get(answer.headers["location"]).status_code == 200
            assert http.delete(answer.headers["location"]).json()["status"] in ("cancelled", "done", "failed")
    assert {202, 400} <= statuses


def test_odd_forms(http: httpx.Client) -> None:
    numbers = random.Random(3)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for _ in range(COUNT):
        content, name = numbers.randbytes(numbers.randrange(200)), numbers.choice(["image", "image[]", "mask", "n"])
        assert_form(http.post("/v1/images/edits", files={name: ("../a\0", content)}, data={"prompt": "a"}))
        whole = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + content
        assert_form(http.post("/v1/images/variations", content=whole + b"\r\n--b--\r\n", headers=headers))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, pixels: bytes, *chunks: bytes) -> bytes:
    """A PNG that claims a size, with these compressed pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


ZEROS = zlib.compress(bytes(2**26), 9)
TENSOR = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
REFUSED = {
    "gigapixels": png_of(50_000, 50_000, ZEROS),
    "no pixels": png_of(0, 8, b""),
    "a GIF of gigapixels": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0),
    "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "a tensor of 4 TB": struct.pack("<Q", len(TENSOR)) + TENSOR,
    "a header of 2^63 bytes": struct.pack("<Q", 2**63 - 1) + b"{}",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_files_that_unpack_to_very_much_are_refused(http: httpx.Client, content: bytes) -> None:
    text = base64.b64encode(content).decode()
    for route, field in (("images/edits", "image"), ("images/variations", "image"), ("tasks/finish", "draft")):
        answer = http.post(f"/v1/{route}", json={"prompt": "a cat", field: text})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("chunks", [chunk(b"zTXt", b"Comment\0\0" + ZEROS), chunk(b"iCCP", b"icc\0\0" + ZEROS)])
def test_metadata_that_unpack_to_very_much_are_no_failure(http: httpx.Client, chunks: bytes) -> None:
    content = png_of(8, 8, zlib.compress(bytes(8 * 25)), chunks)
    assert_form(http.post("/v1/images/variations", data={"size": "16x16"}, files={"image": ("a.png", content)}))


@pytest.mark.parametrize(
    "name",
    ["../history.sqlite", "..%2fhistory.sqlite", "%2e%2e/history.sqlite", "%2fetc%2fpasswd", "%00", "%ff%fe", "%"],
)
def test_paths_that_lead_elsewhere_lead_nowhere(address: str, http: httpx.Client, name: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    key = http.headers["Authorization"]
    for place in ("results", "tasks"):
        head = f"GET /v1/{place}/{name} HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head.encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
