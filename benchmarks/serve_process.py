"""A server in a process of its own, and what is seen of it from outside; used by `serve.py`."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

KEY, OTHER_KEY = "first-key", "second-key"
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A running server: its address, its process, and its store."""

    def __init__(self, store: Path, *options: str, home: Path | None = None) -> None:
        """Start it on a free port, where `home` is all that it should know of the disk, and wait until it is ready."""
        began = time.monotonic()
        unclip = str(Path(sys.executable).with_name("unclip"))
        words = [unclip, "serve", "--store", str(store), "--port", "0", "--device", "cpu", *options]
        environment = os.environ | {"UNCLIP_API_KEY": f"{KEY} {OTHER_KEY}"}
        if home is not None:
            environment |= {"HOME": str(home), "TMPDIR": str(home)}
        # Kept open: it is read while the process writes, which appends.
        self.store, self._log = store, tempfile.TemporaryFile("a+")  # noqa: SIM115
        self.process = subprocess.Popen(words, env=environment, cwd=home, stderr=self._log)
        while (match := re.search(r"http://[\d.]+:\d+", self.log)) is None:
            assert self.process.poll() is None, f"the server did not start: {self.log}"
            time.sleep(0.005)
        self.url = match[0]
        while not self._is_ready():
            assert self.process.poll() is None, f"the server ended: {self.log}"
            time.sleep(0.005)
        self.start_seconds = time.monotonic() - began

    @property
    def log(self) -> str:
        """All that it has written."""
        self._log.seek(0)
        return self._log.read()

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False

    def client(self, key: str | None = KEY) -> httpx.Client:
        """Return a client with a key; None: without one."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=900)

    def figure(self, name: str) -> float:
        """Return one of the figures for Prometheus."""
        with self.client() as http:
            lines = http.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    @property
    def memory_bytes(self) -> int:
        """The resident set of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None, "the process has ended"
        return int(match[1]) * 1024

    @property
    def cpu_seconds(self) -> float:
        """Seconds that the process has computed."""
        with suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        return 0.0

    @property
    def num_open_files(self) -> int:
        """Open files and connections of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextmanager
def serving(*options: str, store: Path | None = None, home: Path | None = None) -> Iterator[Server]:
    """Yield a server, which is killed in the end; its store is removed unless it is given."""
    folder = store or Path(tempfile.mkdtemp(prefix="unclip-serve-"))
    try:
        server = Server(folder, *options, home=home)
        try:
            yield server
        finally:
            server.kill()
    finally:
        if store is None:
            shutil.rmtree(folder)


@contextmanager
def small_disk(size: str) -> Iterator[Path | None]:
    """Yield a folder with a file system of its own in memory; None where this user may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="unclip-disk-"))
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    is_mounted = shutil.which("mount") is not None and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def busy_seconds() -> float:
    """Seconds that all cores of the machine have computed, for whomever."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / TICKS
