"""Where a result is kept, with what it was measured on. Knows files and the machine; no benchmark."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import unclip
from unclip.files import atomic_write

__all__ = ["write_result"]

ROOT = Path(__file__).parents[1]


def write_result(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write `result` as JSON with hardware, versions, commit and date; returns all of it."""
    whole = {
        **result,
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {"unclip": unclip.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    atomic_write(path, json.dumps(whole, indent=2) + "\n")
    return whole


def processor() -> str:
    """The processor's name, where the system says it; else its architecture."""
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def commit() -> str:
    """The commit that was measured, with a + where files differ from it; "" outside a repository."""
    run = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.strip()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
