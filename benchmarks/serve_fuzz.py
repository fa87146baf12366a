"""Claim: whatever is sent to the server, it answers with a picture or a refusal, goes on, and keeps to its folder.

    python benchmarks/serve_fuzz.py [--requests 10000]

`unclip serve` with a tiny model in a process of its own. Requests by schemathesis on the server's own OpenAPI document
(`pip install schemathesis`), forms by hypothesis, pictures that unpack to very much, paths that lead elsewhere, and
clients that never finish. No answer is a 5xx, no task ends in a failure of the server, no request hangs, nothing is
written outside the store.
"""

import argparse
import base64
import io
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serve_process import KEY, Server, serving
from serve_requests import Spec, ask

HOST = "127.0.0.1"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
NUM_SLOW = 50
HEADERS = {"Authorization": f"Bearer {KEY}"}
IMAGES = ("generations", "edits", "variations")


def main() -> None:
    """Send all kinds of requests, and write what came back as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000, help="How many in all, at least.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve_fuzz.json"))
    arguments = parser.parse_args()
    if not SCHEMATHESIS.exists():
        parser.exit(0, "skipped: this takes `pip install schemathesis`\n")
    from record import write_result

    from unclip.testing import tiny_model

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, home, store = tiny_model(root / "model"), root / "home", root / "store"
        home.mkdir()
        before = files_of(root)
        words = ["--model", str(model), "--queue", "4", "--timeout", "120", "--max-steps", "8", "--max-pixels", "65536"]
        with serving(*words, store=store, home=home) as server:
            by_kind = run(server, arguments.requests, arguments.seed)
            statuses = statuses_of(server)
            log_lines = end(server)
        outside = sorted(files_of(root) - before - files_of(store))
        with closing(sqlite3.connect(store / "history.sqlite")) as history:
            records = history.execute("SELECT task, record FROM works WHERE record LIKE '%internal_error%'").fetchall()
    result = {
        "requests": sum(statuses.values()),
        "requests_by_kind": by_kind,
        "answers_by_status": dict(sorted(statuses.items())),
        "answers_5xx": sum(count for status, count in statuses.items() if status.startswith("5")),
        "tasks_that_ended_in_a_failure_of_the_server": len(records),
        "files_outside_the_store": outside,
        "lines_of_the_log": len(log_lines),
    }
    print(json.dumps(result), *log_lines[:100], sep="\n")
    write_result(arguments.out, result)


def run(server: Server, count: int, seed: int) -> dict[str, int]:
    """Send requests of each kind while slow clients hold their connections; returns the number of each."""
    by_kind, total = dict[str, int](), 0

    def note(kind: str) -> None:
        nonlocal total
        now = sum(statuses_of(server).values())
        by_kind[kind] = by_kind.get(kind, 0) + now - total
        total = now

    with ExitStack() as stack:
        for number in range(NUM_SLOW):
            stack.enter_context(slow_client(server, number))
        send_odd_pictures(server)
        note("pictures that unpack to very much, and no pictures")
        send_paths(server)
        note("paths and headers")
        send_forms(server, count // 10, seed)
        note("forms")
        while total < count:
            seed += 1
            run_schemathesis(server, seed)
            note("schemathesis")
    with server.client() as http:
        spec = Spec("images/generations", {"prompt": "a cat", "seed": 1}, "text_to_image", {})
        assert ask(http, spec).status == 200, "the server does not go on"
    return by_kind


def check(answer: httpx.Response) -> None:
    """Raise for an answer that is neither what was asked for nor a refusal in the API's form."""
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json":
        assert answer.json()["error"].keys() == {"type", "code", "param", "message"}, answer.text


def run_schemathesis(server: Server, seed: int) -> None:
    """Run schemathesis on the server's own document; its report is shown where it finds a failure."""
    words = [
        str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--header",
        f"Authorization: Bearer {KEY}", "--checks", "not_a_server_error", "--request-timeout", "150", "--max-examples",
        "50", "--seed", str(seed), "--phases", "examples,coverage,fuzzing", "--workers", "2", "--continue-on-failure",
        "--suppress-health-check", "all", "--warnings", "off", "--no-shrink",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    # It also ends with an error where it fails to make a request itself.
    assert "Test cases:" in report.stdout, report.stdout + report.stderr
    assert "Failures:" not in report.stdout, report.stdout


def send_forms(server: Server, count: int, seed: int) -> None:
    """Send forms by hypothesis: names, files, types and boundaries that are almost right."""
    picture = png(8, 8)
    names = (
        st.sampled_from(["image", "image[]", "mask", "prompt", "n", "size", "seed", "model", "stream", ""]) | st.text()
    )
    contents = (
        st.sampled_from([picture, picture[:40], b"", b"a cat", b"16x16", b"1", b"../../etc/passwd"]) | st.binary()
    )
    file_names = (
        st.sampled_from(["a.png", "../../../../tmp/a", "/etc/passwd", "a\0b", 'a"b', "a\r\nb", "x" * 300]) | st.text()
    )
    types = st.sampled_from(["image/png", "text/plain", "multipart/mixed; boundary=c", "", "image/svg+xml", "\x7f"])
    parts = st.lists(st.tuples(names, file_names | st.none(), types, contents), max_size=8)
    heads = st.sampled_from([
        "multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=",
        "multipart/form-data; boundary=c", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b; charset=utf-16",
    ])  # fmt: skip

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(IMAGES), parts, heads, st.integers(0, 12), st.booleans())
    def send(route: str, parts: list[Any], head: str, cut: int, is_cut: bool) -> None:
        lines = [part_of(*part) for part in parts]
        body = b"".join(b"--b\r\n" + line + b"\r\n" for line in lines) + b"--b--\r\n"
        body = body[: len(body) - cut] if is_cut else body
        check(http.post(f"/v1/images/{route}", content=body, headers={"Content-Type": head}))

    with server.client() as http:
        http.timeout = 150
        send()


def part_of(name: str, file_name: str | None, kind: str, content: bytes) -> bytes:
    """Write a part of a form, valid or not."""
    head = f'Content-Disposition: form-data; name="{name}"' + ("" if file_name is None else f'; filename="{file_name}"')
    return f"{head}\r\nContent-Type: {kind}\r\n\r\n".encode("utf-8", "surrogatepass") + content


def send_odd_pictures(server: Server) -> None:
    """Send files that claim or unpack to more than a server can hold, in every place for a picture."""
    with server.client() as http:
        http.timeout = 150
        for content in odd_pictures().values():
            text = base64.b64encode(content).decode()
            for route in ("edits", "variations"):
                body = {"prompt": "a cat", "image": text, "size": "16x16"}
                check(http.post(f"/v1/images/{route}", json=body))
                check(http.post(f"/v1/images/{route}", data={"prompt": "a cat"}, files={"image": ("a", content)}))
            check(http.post("/v1/images/edits", json={"prompt": "a cat", "image": text_of(png(8, 8)), "mask": text}))
            for task, name in (("image_variations", "images"), ("finish", "draft"), ("upscale", "images")):
                check(http.post(f"/v1/tasks/{task}", json={name: text}))
        for body in odd_bodies():
            for route in ("images/generations", "images/edits", "tasks/text_to_image", "tasks/decode", "tasks/mix"):
                check(http.post(f"/v1/{route}", content=body, headers={"Content-Type": "application/json"}))


def odd_pictures() -> Mapping[str, bytes]:
    """Return files by what is odd about them."""
    zeros = zlib.compress(bytes(2**26), 9)
    text = chunk(b"zTXt", b"Comment\0\0" + zeros)
    profile = chunk(b"iCCP", b"icc\0\0" + zeros)
    frames = io.BytesIO()
    first = Image.new("L", (8, 8))
    first.save(frames, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), shade) for shade in range(1, 200)])
    huge_tensor = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return {
        "a picture of 2.5 gigapixels": png_of(50_000, 50_000, zlib.compress(bytes(2**20), 9)),
        "a picture of zero pixels": png_of(0, 8, b""),
        "pixels that unpack to more than the picture": png_of(8, 8, zeros),
        "a text that unpacks to 64 MB": png_of(8, 8, zlib.compress(bytes(8 * 25)), text),
        "a profile that unpacks to 64 MB": png_of(8, 8, zlib.compress(bytes(8 * 25)), profile),
        "a JPEG that says 65,500 x 65,500": jpeg_of(65_500, 65_500),
        "a GIF that says 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0),
        "200 frames": frames.getvalue(),
        "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a BMP of negative height": b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 1, -(2**31), 1, 24, *[0] * 6),
        "a tensor of 4 TB": struct.pack("<Q", len(huge_tensor)) + huge_tensor,
        "a header of 2^63 bytes": struct.pack("<Q", 2**63 - 1) + b"{}",
        "half a picture": png(64, 64)[:60],
        "nothing": b"",
        "noise": bytes(range(256)) * 16,
    }  # fmt: skip


def odd_bodies() -> Iterator[bytes]:
    """Yield JSON that is too deep, too long, or full of numbers that are too large."""
    yield b"[" * 100_000
    yield b'{"prompt": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    yield b'{"prompt": "' + b"a" * 2**22 + b'"}'
    yield b'{"n": ' + b"9" * 5_000 + b', "prompt": "a"}'
    yield b'{"prompt": "a", "n": 1e999, "seed": -1e999}'
    yield json.dumps({"prompt": "a", "prompts": "a", "n": 2**31, "num_images": 2**31, "size": "99999x99999"}).encode()
    yield json.dumps({"prompts": ["a"] * 10_000, "parts": [{"text": "a"}] * 10_000}).encode()
    yield json.dumps({"image_embedding": [[0.5] * 32] * 300, "num_images": 16}).encode()
    yield json.dumps({str(number): number for number in range(100_000)}).encode()
    yield "{'prompt': 'a'}".encode("utf-16")
    yield b"\xff\xfe\x00"


def send_paths(server: Server) -> None:
    """Ask for files that are not results, with odd headers, as bytes that no client would send."""
    names = (
        "../history.sqlite", "..%2fhistory.sqlite", "%2e%2e/history.sqlite", "....//history.sqlite", "%00", "a%00.png",
        "/etc/passwd", "%2fetc%2fpasswd", "..%5c..%5cetc", "%ff%fe", "C:%5cwindows", "x" * 5_000, "~root", "*", "%",
    )  # fmt: skip
    for place in ("results", "tasks", "models"):
        for name in names:
            for method in ("GET", "DELETE", "HEAD", "POST", "PUT"):
                head = raw(server, f"{method} /v1/{place}/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n")
                assert not re.match(rb"HTTP/1.1 (5|2(?!04))", head) or place == "models", head[:200]
    odd_headers = (
        "Host: [", "Host: a b", "Host: ", "Host: a\r\nHost: b", "Host: \xff", "Host: a\r\nRange: bytes=0-0,1-1,x",
        "Host: a\r\nContent-Length: -1", "Host: a\r\nContent-Length: " + "9" * 30, "Host: a\r\nTransfer-Encoding: x",
        "Host: a\r\nContent-Type: " + "a" * 4_000, "Host: a\r\nContent-Encoding: gzip",
        "Host: a\r\nExpect: 100-continue",
        "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13",
    )  # fmt: skip
    for header in odd_headers:
        for line in ("GET /v1/models", "GET /v1/results/a.png", "POST /v1/images/generations", "POST /v1/tasks/embed"):
            head = raw(server, f"{line} HTTP/1.1\r\n{header}\r\n")
            assert not head.startswith(b"HTTP/1.1 5"), (header, head[:200])


def raw(server: Server, head: str) -> bytes:
    """Send the head of a request as it stands, with the key, and return the beginning of the answer."""
    with socket.create_connection((HOST, port_of(server)), timeout=60) as connection:
        connection.sendall(f"{head}Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n{{}}".encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(4096)


def slow_client(server: Server, number: int) -> socket.socket:
    """Begin a request and never finish it: half of its head, or half of its body."""
    connection = socket.create_connection((HOST, port_of(server)), timeout=60)
    head = f"POST /v1/images/{IMAGES[number % 3]} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
    connection.sendall((head if number % 2 else f"{head}Content-Length: 1000\r\n\r\n{{").encode())
    return connection


def port_of(server: Server) -> int:
    """The port that it listens to."""
    return int(server.url.rpartition(":")[2])


def statuses_of(server: Server) -> Counter[str]:
    """Count the answers of the server by their status."""
    counts = Counter[str]()
    with server.client() as http:
        for status, count in re.findall(r'unclip_requests_total\{.*status="(\d+)"\} (\S+)', http.get("/metrics").text):
            counts[status] += int(float(count))
    return counts


def end(server: Server) -> list[str]:
    """End a server, and return the lines of its log."""
    server.process.terminate()
    server.process.wait(120)
    return [line for line in server.log.splitlines() if line]


def files_of(folder: Path) -> set[str]:
    """All files below a folder."""
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}


def png(width: int, height: int) -> bytes:
    """A small valid picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def png_of(width: int, height: int, pixels: bytes, *chunks: bytes) -> bytes:
    """Write a PNG that claims a size, with these compressed pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Write a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG with another size in its head."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue().replace(struct.pack(">HH", 8, 8), struct.pack(">HH", height, width), 1)


def text_of(content: bytes) -> str:
    """A file in base64."""
    return base64.b64encode(content).decode()


if __name__ == "__main__":
    main()
