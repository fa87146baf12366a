"""A hub of a few repositories on this machine: the answers that its library reads, and what was asked of it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories; everything else is refused with the code of `errors`, or not found."""

    def __init__(self, repositories: dict[str, Path], errors: dict[str, tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories, self.errors = repositories, errors
        self.fetched: list[str] = []
        """Paths of the files whose content was sent."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        name = "/".join(path.removeprefix("/api/models").lstrip("/").split("/")[:2])
        rest = path.partition(name)[2].split("/")[1:]
        folder = self.server.repositories.get(name)
        if name in self.server.errors or folder is None:
            status, code = self.server.errors.get(name, (404, "RepoNotFound"))
            return self._send(status, b"{}", {"X-Error-Code": code})
        rest = rest or ["revision", "main"]
        if rest[1] not in ("main", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        if rest[0] == "tree":
            entries = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                for name, file in files.items()
            ]
            return self._send(200, json.dumps(entries).encode(), {})
        if rest[0] == "revision":
            siblings = [{"rfilename": name} for name in files]
            return self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), {})
        file = files["/".join(rest[2:])]
        if self.command == "GET":
            self.server.fetched.append("/".join(rest[2:]))
        self._send(200, file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test says what went wrong."""


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serve(repositories: dict[str, Path], errors: dict[str, tuple[int, str]] | None = None) -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub(repositories, errors or {})
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
