"""What figures were measured on: processor, GPU, versions, commit, date. Knows the system; no model or benchmark."""

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
    """Name of the processor, or its architecture where the system does not say."""
    cores: int
    """Logical cores of the machine."""
    threads: int
    """Threads that torch computes with."""
    gpu: str | None
    """Name of the GPU that was used."""
    torch: str
    python: str
    commit: str
    """Commit of this package's repository, with a + where files differ from it; "" for an installed package."""
    date: str
    """Year-month-day."""

    def __str__(self) -> str:
        """One line for a table or a caption."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = self.gpu or f"{self.processor}, {threads}"
        return f"{where}; torch {self.torch}; {self.date}" + (f"; commit {self.commit}" if self.commit else "")


def describe_machine(device: torch.device | str = "cpu") -> Machine:
    """This machine as it is now; `device` says whether a GPU took part."""
    is_gpu = torch.device(device).type == "cuda"
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name(device) if is_gpu else None,
        torch=torch.__version__,
        python=platform.python_version(),
        commit=_commit(),
        date=time.strftime("%Y-%m-%d"),
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    # Inside an environment of some other repository, that one's commit would say nothing of this package.
    if not (PACKAGE.parents[1] / "pyproject.toml").exists():
        return ""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=PACKAGE, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return run.stdout.strip()
