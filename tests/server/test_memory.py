"""Memory that was freed goes back to the system, and the threads of a server share few heaps."""

import platform
import re
import subprocess
import sys

import pytest

NEEDS_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
START = """
import re, threading
from pathlib import Path
from unclip.server import memory

def resident_mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
"""


def figures_of(program: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, check=True)
    return [float(number) for number in re.findall(r"[\d.]+", done.stdout)]


@NEEDS_GLIBC
def test_freed_memory_goes_back_now_and_then() -> None:
    full, freed, early, trimmed = figures_of("""
blocks = [bytes(100_000) for _ in range(2_000)]
last = bytes(100_000)  # without it the end of the heap would shrink by itself
full = resident_mib()
blocks.clear()
freed = resident_mib()
trim = memory.Trimmer()
trim()
early = resident_mib()
memory.TRIM_SECONDS = 0.0
trim()
print(full, freed, early, resident_mib())
""")
    assert full - freed < 50  # 190 MiB are free, and the process keeps most of them
    assert abs(freed - early) < 5
    assert full - trimmed > 100


@NEEDS_GLIBC
def test_threads_share_few_heaps() -> None:
    """A heap of glibc begins at a multiple of 64 MiB."""
    counts = []
    for program in ("", "memory.bound_arenas()"):
        counts += figures_of(f"""{program}
ready = threading.Barrier(9)
def fill():
    block = bytes(50_000)
    ready.wait()
    ready.wait()
threads = [threading.Thread(target=fill) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
starts = [int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines()]
print(sum(start % 2**26 == 0 for start in starts))
ready.wait()
""")
    assert counts[0] - counts[1] >= 4  # 8 and 1, and what else begins there by chance
