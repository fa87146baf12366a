"""Claim: activation checkpointing and sharding lower the memory of a training step, each by what it says.

    OMP_NUM_THREADS=1 python benchmarks/training_memory.py [--batch-size 8] [--channels 128]

Trains a decoder at 64 px for two steps on emoji, without conditioning, each time in fresh processes: one process with
and without `activation_checkpointing`, and two with `ddp`, `fsdp_zero2` and `fsdp`. Of each process it tells the peak
of its resident memory above that before the networks were built, and the bytes of weights, gradients, optimiser and
average that it holds, which are exact.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write_result
from torch import Tensor
from torch.distributed.tensor import DTensor

from unclip.config import load_config
from unclip.data import emoji_items, write_shards
from unclip.models import DecoderConfig
from unclip.recipes import get_recipe
from unclip.training import TrainConfig, Trainer, init_cluster, make_task

IMAGE_SIZE, NUM_PICTURES, NUM_STEPS = 64, 64, 2
CASES = {
    "one process": (1, {}),
    "one process, checkpointing": (1, {"activation_checkpointing": True}),
    "two processes, ddp": (2, {"strategy": "ddp"}),
    "two processes, fsdp_zero2": (2, {"strategy": "fsdp_zero2"}),
    "two processes, fsdp": (2, {"strategy": "fsdp"}),
    "two processes, fsdp, checkpointing": (2, {"strategy": "fsdp", "activation_checkpointing": True}),
}


def main() -> None:
    """Print the figures and write them as JSON; with `--worker` be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training_memory.json"))
    options = parser.parse_args()
    if options.worker:
        measure(options.worker)
        return
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder / "shards", emoji_items("train")[:NUM_PICTURES], IMAGE_SIZE, "emoji")
        base = config_of(folder, options.channels, options.batch_size)
        for case, (size, changes) in CASES.items():
            figures[case] = run(folder, base.replace(**changes), size)
            print(f"{case:36} {json.dumps(figures[case])}", flush=True)
    result = {"batch_size": options.batch_size, "channels": options.channels, "megabytes_per_process": figures}
    print(json.dumps(write_result(options.out, result)))


def config_of(folder: Path, channels: int, batch_size: int) -> TrainConfig:
    """An unconditional decoder of four levels in float32, the type that makes a CPU's memory that of its tensors."""
    recipe = get_recipe("emoji/decoder")
    model = DecoderConfig(
        image_size=IMAGE_SIZE,
        embedding_dim=192,
        base_channels=channels,
        head_dim=32,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=2,
        attention_resolutions=(16, 8),
        context_dim=256,
    )
    return recipe.replace(
        task=recipe.task.replace(model=model, clip=None, image_drop_prob=1.0),
        data=recipe.data.replace(folder=str(folder / "shards"), emoji_split=None),
        batch_size=batch_size,
        precision="float32",
    )


def run(folder: Path, config: TrainConfig, size: int) -> dict[str, float]:
    """Figures of the process that needs most, in megabytes of 10^6 bytes."""
    (folder / "config.json").write_text(config.model_dump_json())
    command = [sys.executable, __file__, "--worker", str(folder)]
    common = {**os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    processes = [subprocess.Popen(command, env=common | own) for own in ranks]
    codes = [process.wait() for process in processes]
    assert not any(codes), f"the processes ended with {codes}"
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
    return {name: round(max(part[name] for part in found) / 1e6, 1) for name in found[0]}


def measure(folder: Path) -> None:
    """Train two steps as one process and write what it held."""
    config = load_config(TrainConfig, json.loads((folder / "config.json").read_text()))
    gradients: list[int] = []
    with init_cluster("cpu") as cluster:
        task = make_task(config, cluster.device)
        before = resident()
        trainer = Trainer.open(config, cluster, task)
        state = trainer.state
        for optimizer in state.optimizer.optimizers.values():
            optimizer.register_step_pre_hook(partial(note_gradients, gradients))
        for _ in range(NUM_STEPS):
            trainer.step()
        figures = {
            "peak": peak() - before,
            "weights": held(state.network.parameters()),
            "gradients": max(gradients),
            "optimizer": held(state.optimizer.tensors().values()),
            "average": held(state.averages.networks[0].parameters()),
        }
        (folder / f"{cluster.rank}.json").write_text(json.dumps(figures))


def note_gradients(book: list[int], optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Write down the bytes of an optimiser's gradients."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    book.append(held(parameter.grad for parameter in parameters if parameter.grad is not None))


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, of sharded ones the part in this process."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(part.nbytes for part in parts)


def resident() -> int:
    """The resident memory of this process, in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most resident memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
