"""Time and memory of one job, in the process that calls. Knows jobs and a clock; counts no operations."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.nn import functional as F

from unclip.bench.jobs import Measured, StageJob, TrainJob
from unclip.bench.memory import PeakMemory
from unclip.bench.peak import synchronize
from unclip.bench.stage import prepare
from unclip.bench.synthetic import Ready, synthetic_task
from unclip.bench.weights import fill_network
from unclip.model.families import build_on_meta
from unclip.runtime import resolve_device
from unclip.training import Cluster, Trainer

T = TypeVar("T")

# Short steps are timed for at least this long, unless a whole sampling is timed before.
LEAST_SECONDS = 1.0


def measure(job: StageJob | TrainJob) -> Measured:
    """Do what `job` says: a step to warm up, then steps that are timed."""
    return _measure_stage(job) if isinstance(job, StageJob) else _measure_training(job)


@torch.inference_mode()
def _measure_stage(job: StageJob) -> Measured:
    device, dtype = resolve_device(job.device), getattr(torch, job.dtype)
    network = build_on_meta(job.shape.load())
    last = None if job.last is None else build_on_meta(job.last.load())
    _wake(device, dtype)
    memory = PeakMemory(device)
    fill_network(network, device, dtype, job.stage, job.model)
    if last is not None:
        fill_network(last, device, dtype, f"{job.stage}_last", job.model)
    begin = prepare(job, network, last, device)
    next(steps := begin())
    setups, seconds, indices, index = [_timed(begin, device)[0]], list[float](), list[int](), 1
    while len(seconds) < job.repeats or (sum(seconds) < LEAST_SECONDS and len(seconds) < job.num_steps):
        if index == job.num_steps:
            setup, steps = _timed(begin, device)
            setups.append(setup)
            index = 0
        seconds.append(_timed(steps.__next__, device)[0])
        indices.append(index)
        index += 1
    return Measured(
        setup_seconds=min(setups), seconds=tuple(seconds), indices=tuple(indices), peak_memory_bytes=memory.peak()
    )


def _measure_training(job: TrainJob) -> Measured:
    cluster = Cluster(0, 1, resolve_device(job.device))
    _wake(cluster.device, getattr(torch, job.config.precision))
    memory = PeakMemory(cluster.device)
    task = synthetic_task(job.config, cluster.device)
    task.samples = Ready(task.samples)
    trainer = Trainer.open(job.config, cluster, task)
    trainer.step()
    seconds = [_timed(trainer.step, cluster.device)[0] for _ in range(job.repeats)]
    return Measured(seconds=tuple(seconds), indices=tuple(range(1, len(seconds) + 1)), peak_memory_bytes=memory.peak())


def _wake(device: torch.device, dtype: torch.dtype) -> None:
    """Load torch's kernels, which take memory once, before memory is watched."""
    one = torch.ones(1, 8, 8, 8, device=device, dtype=dtype)
    two = F.group_norm(F.conv2d(one, one, padding=4), 1)
    F.scaled_dot_product_attention(two, two, two)


def _timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    synchronize(device)
    started = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - started, result
