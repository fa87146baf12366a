"""Describe the machine of a measurement: processor, GPU, versions, commit, date."""

import os
import platform
import subprocess
import time
from pathlib import Path

import torch

from unclip.config import Config

PACKAGE = Path(__file__).parent


class Machine(Config):
    """The machine and the software of a measurement."""

    processor: str
    """Name of the processor, or its architecture if the system does not name it."""
    cores: int
    """Logical cores of the machine."""
    threads: int
    """Threads that torch computes with."""
    gpu: str | None
    """Name of the GPU that was used."""
    torch: str
    python: str
    commit: str
    """Commit of this package's repository, with a + if files differ from it; "" for an installed package."""
    date: str
    """Year-month-day."""

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = self.gpu or f"{self.processor}, {threads}"
        return f"{where}; torch {self.torch}; {self.date}" + (f"; commit {self.commit}" if self.commit else "")


def describe_machine(device: torch.device | str = "cpu") -> Machine:
    """Describe this machine as it is now; `device` says whether a GPU took part."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    is_gpu = torch.device(device).type == "cuda"
    return Machine(
        processor=names[0] if names else platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name(device) if is_gpu else None,
        torch=torch.__version__,
        python=platform.python_version(),
        commit=_commit(),
        date=time.strftime("%Y-%m-%d"),
    )


def _commit() -> str:
    # Of an environment inside some other repository, that repository's commit would say nothing about this package.
    if not (PACKAGE.parents[1] / "pyproject.toml").exists():
        return ""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=PACKAGE, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return run.stdout.strip()
