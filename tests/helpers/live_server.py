"""A server of a model on a free port: in threads of the test's process, or as the command."""

import io
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image

from unclip.pipelines import UnClip
from unclip.server import Policy, ServerConfig, create_app
from warm import python


@contextmanager
def running(pipe: UnClip, store: Path, policy: Policy | None = None, **settings: Any) -> Iterator[str]:
    """Yield the address of a server, which stops in the end as it does on a signal."""
    app = create_app(pipe, ServerConfig(store=store, **{"safety": "off", **settings}), policy=policy)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        (listening,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(
    model: Path, store: Path, *options: str, keys: Sequence[str] = (), program: Sequence[str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield the address and the process of the command on a free port."""
    code = "import sys; from unclip.cli import main; main()"
    safety = [] if "--safety" in options else ["--safety", "off"]
    words = ["serve", "--model", str(model), "--store", str(store), "--port", "0", *safety, *options]
    environment = os.environ | ({"UNCLIP_API_KEY": " ".join(keys)} if keys else {})
    with subprocess.Popen(
        [*(program or python()), "-c", code, *words], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            match, lines = None, []
            while match is None:
                lines.append(process.stderr.readline())
                assert lines[-1], f"the server did not start: {lines}"
                match = re.search(r" served at (http://[\d.]+:\d+)", lines[-1])
            yield match[1], process
        finally:
            process.kill()


def events_of(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the kind and the data of each server-sent event."""
    kind = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def opened(content: bytes) -> Image.Image:
    """The picture in the bytes of a file."""
    return Image.open(io.BytesIO(content))
