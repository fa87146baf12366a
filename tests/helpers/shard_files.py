"""Small tars of small pictures, and servers that hold them."""

import io
import json
import multiprocessing
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_tar(path: Path, files: Mapping[str, bytes], format: int = tarfile.USTAR_FORMAT) -> None:
    """A tar of `files` in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def picture(image_size: int, value: int = 255) -> bytes:
    """A PNG of one grey."""
    file = io.BytesIO()
    Image.fromarray(np.full((image_size, image_size, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_set(
    folder: Path, shard_sizes: list[int], image_size: int = 8, infos: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Shards of that many samples; sample i is one grey of value i and says so, with the i-th of `infos` as its .json.

    Returns the keys.
    """
    keys: list[str] = []
    for shard, size in enumerate(shard_sizes):
        files: dict[str, bytes] = {}
        for _ in range(size):
            keys.append(f"{len(keys):05d}")
            files |= {
                f"{keys[-1]}.png": picture(image_size, (len(keys) - 1) % 256),
                f"{keys[-1]}.txt": f"grey {len(keys) - 1}".encode(),
            }
            files |= {f"{keys[-1]}.json": json.dumps(info).encode() for info in infos[len(keys) - 1 : len(keys)]}
        write_tar(folder / f"{shard:05d}.tar", files)
    return keys


def sent(value: Any) -> Any:
    """`value` as another process would receive it."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with receiver, sender:
        sender.send(value)
        return receiver.recv()


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        """Fails on purpose for the paths that the test named, once each."""
        requests, failing = self.server.requests, self.server.failing  # type: ignore[attr-defined]
        if self.path in failing:
            failing.remove(self.path)
            requests.append(f"503 {self.path}")
            self.send_error(503)
        else:
            requests.append(self.path)
            super().do_GET()


@contextmanager
def http_server(folder: Path, failing: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """A web server of `folder`: its address, and the list of paths that were asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        server.requests = []  # type: ignore[attr-defined]
        server.failing = list(failing)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.requests  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
