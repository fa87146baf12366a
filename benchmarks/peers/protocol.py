"""A worker that measures one side of a comparison, a unit of work at a time. Knows the protocol; no library.

The driver writes one line of JSON, the `Task`, and reads `{"parameters": ..., "dtype": ..., "versions": ...}`. After
that each line asks for one thing and gets one line: "go" does a unit and answers its seconds and the most memory that
the process (on a GPU, torch) held meanwhile; "count" does a unit and answers its floating-point operations. The end of
the input ends the worker.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Task(NamedTuple):
    """What one worker is to do."""

    kind: str
    """What is measured, such as "prior_train"."""
    settings: Mapping[str, Any]
    """Shapes, batch and steps."""
    device: str
    threads: int
    precision: str
    """"float32", or "default": what the library does unless told otherwise."""


class Work(NamedTuple):
    """What a worker has built."""

    unit: Callable[[], object]
    """One unit: a training step, a sampler's step, or a whole sample."""
    networks: tuple[nn.Module, ...]
    """What is trained or sampled, whose parameters are counted."""
    dtype: torch.dtype = torch.float32
    """What the networks compute in."""


def serve(build: Callable[[Task], Work], packages: tuple[str, ...]) -> None:
    """Answer the driver until it closes the input."""
    # Libraries print; the answers keep a stream of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = Task(**json.loads(sys.stdin.readline()))
    torch.set_num_threads(task.threads)
    # A worker is a process of its own: nothing else draws from this state.
    torch.manual_seed(0)
    work = build(task)
    ready = {
        "parameters": sum(parameter.numel() for network in work.networks for parameter in network.parameters()),
        "dtype": str(work.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in (*packages, "torch")},
    }
    _answer(answers, ready)
    for line in sys.stdin:
        _answer(answers, {"flops": count(work)} if line.strip() == "count" else measure(work, task.device))


def measure(work: Work, device: str) -> dict[str, float]:
    """Seconds and peak bytes of one unit."""
    is_gpu = torch.device(device).type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    elif CLEAR.exists():
        CLEAR.write_text("5")
    started = time.perf_counter()
    work.unit()
    if is_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_bytes": torch.cuda.max_memory_allocated() if is_gpu else peak()}


def peak() -> int:
    """The most resident bytes since the counter was cleared; where the system has no such counter, since the start."""
    if STATUS.exists():
        found = [line.split() for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0][1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count(work: Work) -> int:
    """Floating-point operations of the matrix products and convolutions of one unit, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work.unit()
    return int(counter.get_total_flops())


def _answer(stream: TextIO, answer: Mapping[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()
