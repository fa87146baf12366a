"""Time and memory of one job: in a fresh process on a CPU, whose memory counter forgets nothing, else in this one."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.bench.peak import timed
from unclip.bench.stage import StageJob, prepare
from unclip.bench.synthetic import synthetic_trainer
from unclip.checkpoint import LazyTensor, fill
from unclip.config import Config, load_config
from unclip.errors import InputError, UnclipError
from unclip.model import open_sources
from unclip.runtime import resolve_device, seeded
from unclip.training import Cluster, TrainConfig

# Short steps are timed for at least this long, unless a whole sampling is timed before.
MIN_SECONDS = 1.0
# Random numbers that are drawn; larger tensors repeat them. Drawing billions of numbers would take minutes.
NUM_DRAWN = 2**16
VECTOR_STD = 0.02
STATUS = Path("/proc/self/status")


class TrainJob(Config):
    """Training steps of one stage on made-up samples."""

    kind: Literal["train"] = "train"
    config: TrainConfig
    device: str
    repeats: int


class Measurement(Config):
    """Seconds and memory of a job."""

    setup_seconds: float = 0.0
    """Before the first step: text that is read once, noise, the enlarged small picture."""
    seconds: tuple[float, ...]
    """Of each step that was timed."""
    indices: tuple[int, ...]
    """Which step of a sampling each was."""
    peak_memory_bytes: int
    """Most memory above that before the network was built."""


def measure_apart(job: StageJob | TrainJob) -> Measurement:
    """Measure `job` so that no other measurement hides its memory.

    Raises `InputError` if it does not fit into memory.
    """
    if isinstance(job, StageJob):
        title = f"{job.stage} at batch {job.batch}"
    else:
        title = f"training {job.config.name} at batch {job.config.batch_size}"
    if resolve_device(job.device).type != "cpu":
        try:
            return measure(job)
        except torch.OutOfMemoryError:
            raise InputError(f"{title} does not fit into the device's memory; use a smaller --batch.") from None
    # -P: a folder called unclip where the command is given is not the package.
    command = [sys.executable, "-P", "-c", "from unclip.bench.measure import answer; answer()"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    run = subprocess.run(
        command, input=job.model_dump_json(), env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode == -signal.SIGKILL or "DefaultCPUAllocator" in run.stderr:
        raise InputError(f"{title} does not fit into memory; use a smaller --batch, or --dtype bfloat16.")
    if run.returncode != 0:
        raise RuntimeError(f"{title} ended with {run.returncode}:\n{run.stderr}")
    reply = json.loads(run.stdout.splitlines()[-1])
    if "error" in reply:
        raise InputError(reply["error"])
    return load_config(Measurement, reply)


def answer() -> None:
    """Measure the job on standard input, in a process of its own; the figures or the error go to standard output."""
    job = json.loads(sys.stdin.read())
    try:
        is_stage = job["kind"] == "stage"
        measurement = measure(load_config(StageJob, job) if is_stage else load_config(TrainJob, job))
        print(measurement.model_dump_json())
    except UnclipError as error:
        print(json.dumps({"error": str(error)}))


def measure(job: StageJob | TrainJob) -> Measurement:
    """Make a step to warm up, then steps that are timed."""
    device = resolve_device(job.device)
    if isinstance(job, StageJob):
        return _measure_stage(job, device)
    memory = PeakMemory(device, getattr(torch, job.config.precision))
    trainer = synthetic_trainer(job.config, Cluster(0, 1, device))
    trainer.step()
    seconds = tuple(timed(trainer.step, device)[0] for _ in range(job.repeats))
    indices = tuple(range(1, len(seconds) + 1))
    return Measurement(seconds=seconds, indices=indices, peak_memory_bytes=memory.peak())


@torch.inference_mode()
def _measure_stage(job: StageJob, device: torch.device) -> Measurement:
    networks, dtype = job.networks(), getattr(torch, job.dtype)
    memory = PeakMemory(device, dtype)
    for network, stage in zip(networks, (job.stage, f"{job.stage}_last"), strict=False):
        fill_network(network, device, dtype, stage, job.model)
    begin = prepare(job, networks, device)
    next(steps := begin())
    setups, seconds, indices, index = [timed(begin, device)[0]], list[float](), list[int](), 1
    while len(seconds) < job.repeats or (sum(seconds) < MIN_SECONDS and len(seconds) < job.num_steps):
        if index == job.num_steps:
            setup, steps = timed(begin, device)
            setups.append(setup)
            index = 0
        seconds.append(timed(steps.__next__, device)[0])
        indices.append(index)
        index += 1
    return Measurement(
        setup_seconds=min(setups), seconds=tuple(seconds), indices=tuple(indices), peak_memory_bytes=memory.peak()
    )


class PeakMemory:
    """Most memory that was held since this object was created.

    On CUDA it is what torch allocates. On a CPU it is the resident memory of the process, whose high-water mark nothing
    lowers: measure each piece of work in a process of its own.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        # Kernels that torch loads at their first use take memory once.
        images = torch.ones(1, 8, 8, 8, device=device, dtype=dtype)
        features = F.group_norm(F.conv2d(images, images, padding=4), 1)
        F.scaled_dot_product_attention(features, features, features)
        del images, features
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        self.before = self._held("VmRSS")

    def peak(self) -> int:
        """Return the bytes above those at the beginning."""
        return max(0, self._held("VmHWM") - self.before)

    def _held(self, mark: str) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)  # after its reset, what is allocated now
        if self.device.type == "mps":
            # The driver keeps what was freed, so what it holds now is the most that it held.
            return torch.mps.driver_allocated_memory()
        # Not getrusage where this exists: its mark outlives the start of a program, so a child would show its parent's.
        if STATUS.exists():
            (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{mark}:"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fill_network(network: nn.Module, device: torch.device, dtype: torch.dtype, stage: str, model: str | None) -> None:
    """Put the network of `stage` from meta on `device`, with the weights of `model`, or with random ones."""
    tensors: Mapping[str, LazyTensor]
    if model is not None:
        tensors = open_sources([model]).source.networks[stage].tensors
    else:
        weights = dict(network.named_parameters()).keys()
        tensors = {
            name: LazyTensor(tuple(tensor.shape), dtype, partial(_random, tuple(tensor.shape), dtype, name in weights))
            for name, tensor in network.state_dict().items()
        }
    fill(network, tensors, model or "random weights", device, dtype)


def _random(shape: tuple[int, ...], dtype: torch.dtype, is_weight: bool) -> Tensor:
    """Return weights whose products keep the size of their input; statistics are ones, by which one may divide."""
    if not is_weight:
        return torch.ones(shape)
    scale = (shape[0] / prod(shape)) ** 0.5 if len(shape) > 1 else VECTOR_STD
    drawn = (scale * torch.randn(NUM_DRAWN, generator=seeded(0, prod(shape)))).to(dtype)
    flat = torch.empty(prod(shape), dtype=dtype)
    whole = len(flat) // NUM_DRAWN * NUM_DRAWN
    flat[:whole].view(-1, NUM_DRAWN).copy_(drawn.expand(whole // NUM_DRAWN, -1))
    flat[whole:] = drawn[: len(flat) - whole]
    return flat.view(shape)
