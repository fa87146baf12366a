"""Claim: beside a process that keeps a core busy, `unclip` draws at most 2.5 times as slowly as alone.

    python benchmarks/busy_neighbour.py [--runs 3]

Each run is a new process of `unclip generate`, which lets its threads sleep where they wait (OMP_WAIT_POLICY=passive
unless the caller has set it); the rows alternate. The neighbour computes in one Python thread. With
OMP_WAIT_POLICY=active threads spin where they wait.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from generate import PROMPT, measure
from record import write_result

POLICIES = ("passive", "active")


def main() -> None:
    """Print the median seconds alone and beside a neighbour, by policy, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/busy_neighbour.json"))
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        words = ["generate", PROMPT, "--seed", "7", "-o", str(Path(folder) / "picture.png")]
        for _ in range(arguments.runs):
            for policy in POLICIES:
                os.environ["OMP_WAIT_POLICY"] = policy
                seconds.setdefault(f"{policy}, alone", []).append(measure(words)[0])
                with neighbour():
                    seconds.setdefault(f"{policy}, beside a busy process", []).append(measure(words)[0])
    medians = {row: statistics.median(values) for row, values in seconds.items()}
    result = {
        "seconds": {row: [round(value, 2) for value in values] for row, values in seconds.items()},
        "median_seconds": {row: round(value, 2) for row, value in medians.items()},
        "slower_beside": {
            policy: round(medians[f"{policy}, beside a busy process"] / medians[f"{policy}, alone"], 2)
            for policy in POLICIES
        },
    }
    print(json.dumps(write_result(arguments.out, result)))


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep one core busy inside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
