"""The most memory that a piece of work held. Knows the system's counters; no network."""

import gc
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


class PeakMemory:
    """Watches memory from its making on.

    On CUDA it is what torch allocates. On a CPU it is the resident memory of the process, whose high-water mark nothing
    lowers: measure each piece of work in a process of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            self.before = torch.mps.driver_allocated_memory() if device.type == "mps" else _resident()

    def peak(self) -> int:
        """Bytes above those at the beginning."""
        match self.device.type:
            case "cuda":
                most = torch.cuda.max_memory_allocated(self.device)
            case "mps":
                # The driver keeps what was freed, so that what it holds now is the most that it held.
                most = torch.mps.driver_allocated_memory()
            case _:
                most = _high_water()
        return max(0, most - self.before)


def _resident() -> int:
    return _status("VmRSS") if STATUS.exists() else _high_water()


def _high_water() -> int:
    # Not getrusage where this is known: its mark outlives the start of a program, so a child would show its parent's.
    if STATUS.exists():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
