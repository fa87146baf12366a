"""Load a model and serve it until the process is told to stop."""

import errno
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from unclip.errors import InputError, optional_module
from unclip.files import expand_home
from unclip.pipelines import UnClip
from unclip.progress import say
from unclip.server.app import create_app
from unclip.server.config import ServerConfig
from unclip.server.memory import bound_arenas
from unclip.server.studio import Spell

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE_SECONDS = 30
"""Seconds that open connections have after the signal to stop."""


def listen(host: str, port: int) -> socket.socket:
    """Take a port, 0 for any free one; raises `InputError` where that cannot be."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} of {host} is taken; give another --port, 0 for any free one.") from None
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"nothing can listen at {host}, port {port} ({reason}); give another.") from None


def serve(
    pipe: UnClip, config: ServerConfig, listening: socket.socket, audit: str | None = None, spell: Spell | None = None
) -> None:
    """Serve a loaded model on a socket of `listen`, which is closed in the end.

    The file `audit` gets a line for each request, and `spell` writes commands in the studio, which there is not without
    it. Raises `InputError` for a store that cannot be used.
    """
    optional_module("python_multipart", "serving forms", "serve")
    if audit is not None:
        write_audit(audit)
    bound_arenas()
    # Where the studio keeps pictures that were sent.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(expand_home(config.store).absolute() / "studio"))
    app = create_app(pipe, config, spell)
    with listening:
        host, port = listening.getsockname()[:2]
        say_address(pipe.name, host, port, config, has_studio=spell is not None)
        if pipe.guard is not None:
            pipe.guard.marker.note_signer()
        # Paths alone would be logged, no prompts; but names of results are secrets too.
        settings = uvicorn.Config(
            app, log_level=logging.WARNING, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS
        )
        _Server(settings, app.state.begin_stop).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that says that it stops, and stops at once when it is told so again."""

    def __init__(self, settings: uvicorn.Config, begin_stop: Callable[[], None]) -> None:
        super().__init__(settings)
        self._begin_stop = begin_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or, when that has begun, end the process: what was accepted outlives it."""
        if self.should_exit and sig == signal.SIGINT:
            os.write(2, b"stopped at once\n")  # whatever was interrupted may be writing a line itself
            os._exit(128 + sig)  # the thread that draws would not let the interpreter end
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open within a while."""
        self._begin_stop()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # all that it would say is that this took long
        say(f"stopping; what is being drawn has {GRACE_SECONDS} seconds (Ctrl-C again stops at once)")
        await super().shutdown(sockets)
        say("stopped")


def say_address(model: str, host: str, port: int, config: ServerConfig, *, has_studio: bool) -> None:
    """Say where a model is served, and who may draw if that is everybody."""
    if host not in LOOPBACK and not config.all_keys:
        say(f"note: everybody who reaches {host} may draw; give --api-key or --keys to say who")
    name = f"[{host}]" if ":" in host else host
    studio = f", the studio at http://{name}:{port}/" if has_studio else ""
    say(f"{model} is served at http://{name}:{port}/v1{studio} (Ctrl-C stops it)")


def write_audit(path: str) -> None:
    """Write a line for each request of this process to the end of a file."""
    # Of its own logger alone, whose lines go nowhere else.
    logger = logging.getLogger("unclip.audit")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(expand_home(path), encoding="utf-8"))
