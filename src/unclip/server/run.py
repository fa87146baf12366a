"""Load a model and serve it until the process is told to stop."""

import logging
import socket

import uvicorn

from unclip.errors import optional_module
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


def serve(
    pipe: UnClip, config: ServerConfig, host: str, port: int, audit: str | None = None, spell: Spell | None = None
) -> None:
    """Serve a loaded model; the file `audit` gets a line for each request, and `spell` writes commands in the studio.

    Raises `OSError` where the port is taken, and `InputError` for a store that cannot be used.
    """
    optional_module("python_multipart", "serving forms", "serve")
    if audit is not None:
        write_audit(audit)
    bound_arenas()
    app = create_app(pipe, config, spell)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        say_address(pipe.name, host, listening.getsockname()[1], config)
        # Paths alone would be logged, no prompts; but names of results are secrets too.
        settings = uvicorn.Config(
            app, log_level=logging.WARNING, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS
        )
        uvicorn.Server(settings).run(sockets=[listening])


def say_address(model: str, host: str, port: int, config: ServerConfig) -> None:
    """Say where a model is served, and who may draw if that is everybody."""
    if host not in LOOPBACK and not config.all_keys:
        say(f"note: everybody who reaches {host} may draw; give --api-key or --keys to say who")
    name = f"[{host}]" if ":" in host else host
    say(f"{model} is served at http://{name}:{port}/v1 (Ctrl-C stops it)")


def write_audit(path: str) -> None:
    """Write a line for each request of this process to the end of a file."""
    # Of its own logger alone, whose lines go nowhere else.
    logger = logging.getLogger("unclip.audit")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(expand_home(path), encoding="utf-8"))
