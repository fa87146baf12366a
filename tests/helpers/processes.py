"""Processes that train together, started as a launcher starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from warm import python

ROOT = Path(__file__).parents[2]


def start(command: Sequence[str | Path], count: int, **options: object) -> list[subprocess.Popen[str]]:
    """`count` processes of one Python command, each told its rank as torchrun tells it.

    They start warm, unless `options` make them a group of processes, which signals reach together.
    """
    program = [sys.executable] if "start_new_session" in options else python()
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "helpers")]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
    }
    return [
        subprocess.Popen(
            [*program, *map(str, command)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        for rank in range(count)
    ]


def finish(processes: Sequence[subprocess.Popen[str]], timeout: float = 180) -> list[tuple[int, str]]:
    """Exit code and error output of each; all are ended when one takes too long."""
    try:
        return [(process.wait(timeout), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
