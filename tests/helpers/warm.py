"""Python processes that start with torch and unclip imported: a server imports them once, and forks for each.

`python()` is what to write in place of `sys.executable` in a command. What it starts is a small program that hands its
arguments, environment, folder and standard streams to the server, passes signals on to the process that the server
forks, and ends as that ends; when it is killed the server kills the process. A test of a cold start, of a group of
processes or of what is read from the environment when torch is imported uses `sys.executable`.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
PRELOADED = ("torch", "numpy", "PIL.Image", "unclip.cli.main", "unclip.pipelines", "unclip.training", "unclip.evaluate")


@cache
def python() -> list[str]:
    """The beginning of a command that runs Python; the server starts with the first of them."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address = os.path.join(folder.name, "socket")
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "helpers")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(folder.cleanup)
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the server of warm processes did not start"
    return [sys.executable, "-I", "-S", __file__, address, "--"]


def _request(address: str, arguments: list[str]) -> int:
    """The small program: its exit code is that of the process."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        order = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
        server.sendall(len(order).to_bytes(8, "big") + order)
        socket.send_fds(server, [b"fds"], [0, 1, 2])
        pid = int.from_bytes(_receive(server, 8), "big")
        for number in FORWARDED:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        status = int.from_bytes(_receive(server, 8), "big")
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _serve(address: str) -> list[str] | None:
    """Fork for each request; returns in the forked process, with what it is to run. Ends with the tests' process."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _watch(connection)
            connection.close()
            # Watchers that have ended.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _watch(connection: socket.socket) -> list[str] | None:
    """Fork the process itself, and report its end; kill it when the small program is gone."""
    order = json.loads(_receive(connection, int.from_bytes(_receive(connection, 8), "big")))
    _, streams, _, _ = socket.recv_fds(connection, 3, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        return order["arguments"]
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(pid.to_bytes(8, "big"))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended = 0
    while not ended:
        with contextlib.suppress(InterruptedError):
            # Readable where the small program was killed; SIGCHLD may come before the call, so it is no long one.
            connection.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    os.kill(pid, signal.SIGKILL)
        ended, status = os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(status.to_bytes(8, "big"))
    os._exit(0)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return data


def _run(arguments: list[str]) -> None:
    """What `python ARGUMENTS` does: a script, `-m module` or `-c code`."""
    for path in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(0, path)
    sys.stdin, sys.stdout, sys.stderr = (_text_stream(number) for number in range(3))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind, *rest = arguments
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(kind)))
        runpy.run_path(kind, run_name="__main__")


def _text_stream(number: int) -> object:
    """A standard stream as Python opens it, or None where there is none."""
    try:
        os.fstat(number)
    except OSError:
        return None
    mode, errors = ("r", "strict") if number == 0 else ("w", "strict" if number == 1 else "backslashreplace")
    return open(number, mode, encoding="utf-8", errors=errors, buffering=1, closefd=False)


def _end(program: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Run a program and end as Python does, without taking apart all the modules that the server imported."""
    code: object = 0
    try:
        program(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # waits for threads, as the end of Python does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    if sys.argv[2:3] == ["--"]:
        sys.exit(_request(sys.argv[1], sys.argv[3:]))
    for name in PRELOADED:
        __import__(name)
    # What is there stays: collecting it would copy its pages into each process.
    gc.collect()
    gc.freeze()
    arguments = _serve(sys.argv[1])
    assert arguments is not None
    _end(_run, arguments)
