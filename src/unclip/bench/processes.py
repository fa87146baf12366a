"""Where a job is measured: in a fresh process on a CPU, whose memory counter forgets nothing; here on a GPU."""

import json
import os
import signal
import subprocess
import sys

import torch

from unclip.bench.jobs import Measured, StageJob, TrainJob
from unclip.bench.measure import measure
from unclip.config import load_config
from unclip.errors import InputError
from unclip.runtime import resolve_device


def measure_apart(job: StageJob | TrainJob) -> Measured:
    """What `job` takes, so that no other measurement hides its memory.

    Raises `InputError` where it does not fit into memory.
    """
    if resolve_device(job.device).type == "cpu":
        return _in_fresh_process(job)
    try:
        return measure(job)
    except torch.OutOfMemoryError:
        raise InputError(f"{_title(job)} does not fit into the device's memory; use a smaller --batch.") from None


def _in_fresh_process(job: StageJob | TrainJob) -> Measured:
    sent = {"job": job.model_dump(mode="json")}
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    # -P: a folder called unclip where the command is given is not the package.
    command = [sys.executable, "-P", "-m", "unclip.bench.worker"]
    run = subprocess.run(command, input=json.dumps(sent), env=environment, capture_output=True, text=True, check=False)
    if run.returncode == -signal.SIGKILL or "DefaultCPUAllocator" in run.stderr:
        raise InputError(f"{_title(job)} does not fit into memory; use a smaller --batch, or --dtype bfloat16.")
    if run.returncode != 0:
        raise RuntimeError(f"{_title(job)} ended with {run.returncode}:\n{run.stderr}")
    answer = json.loads(run.stdout.splitlines()[-1])
    if "error" in answer:
        raise InputError(answer["error"])
    return load_config(Measured, answer["found"])


def _title(job: StageJob | TrainJob) -> str:
    if isinstance(job, StageJob):
        return f"{job.stage} at batch {job.batch}"
    return f"training {job.config.name} at batch {job.config.batch_size}"
