"""Claim: one 256 px picture from the shipped model takes at most 5 s from typing to file, and 1.5 GB of memory.

    python benchmarks/generate.py [--runs 5]

Each run is a new process of `unclip generate`; wall time is the process's, memory its peak resident set.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from record import write_result

PROMPT = "a red apple"


def main() -> None:
    """Print the median time and the largest memory, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/generate.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [draw(Path(folder) / "picture.png") for _ in range(arguments.runs)]
        pictures = {picture for _, _, picture in runs}
    result = {
        "prompt": PROMPT,
        "seconds": [round(seconds, 2) for seconds, _, _ in runs],
        "median_seconds": round(statistics.median(seconds for seconds, _, _ in runs), 2),
        "peak_memory_bytes": max(memory for _, memory, _ in runs),
        "same_bytes_every_run": len(pictures) == 1,
    }
    print(json.dumps(write_result(arguments.out, result)))


def draw(path: Path) -> tuple[float, int, bytes]:
    """Seconds, peak bytes and the file of one process."""
    return *measure(["generate", PROMPT, "--seed", "7", "-o", str(path)]), path.read_bytes()


def measure(words: Sequence[str]) -> tuple[float, int]:
    """Seconds and peak bytes of a process of `unclip` with these words."""
    started = time.monotonic()
    process = subprocess.Popen([str(Path(sys.executable).with_name("unclip")), *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    assert status == 0, f"unclip {words[0]} ended with {status}"
    return seconds, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
