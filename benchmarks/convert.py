"""Claim: Karlo at its full size is converted within memory for its largest tensor, and draws within that of one stage.

    python benchmarks/convert.py [--folder FOLDER]

Writes a model of Karlo's shapes in float16 (7.4 GB of zeros), converts it to diffusers' layout and back, and draws with
two steps a stage and `low_memory`, each in a process of its own. Needs 15 GB of disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from record import write_result

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.clip import Tokenizer
from unclip.config import Config
from unclip.model import Defaults, ModelSource, model_preset
from unclip.model.families import build_on_meta
from unclip.model.folder import write_model

LIMIT = 1.3
DRAW = """
import sys, unclip
unclip.UnClip.load(sys.argv[1], low_memory=True).text_to_image("a fox", seed=7, num_steps=2)
"""


def main() -> None:
    """Print seconds and peak memory of both directions, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None, help="where there is room")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convert.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_karlo(folder / "ours")
        program = str(Path(sys.executable).with_name("unclip"))
        ours, theirs = str(folder / "ours"), str(folder / "diffusers")
        runs = {"to_diffusers": measure(folder / "ours", program, "convert", ours, theirs, "--to", "diffusers")}
        shutil.rmtree(ours)
        runs["back"] = measure(folder / "diffusers", program, "convert", theirs, ours)
        runs["draw_with_low_memory"] = measure(folder / "ours", sys.executable, "-c", DRAW, ours)
    result = {
        **runs,
        "limit_of_peak": LIMIT,
    }
    print(json.dumps(write_result(arguments.out, result)))


def write_karlo(folder: Path) -> None:
    """A model folder of Karlo's shapes."""
    preset = model_preset("karlo")
    networks = {stage: zeros(config) for stage, config in preset.stages.items()}
    write_model(ModelSource("karlo", networks, {"clip": Tokenizer.openai()}, Defaults(stages=preset.sampling)), folder)


def zeros(config: Config) -> NetworkWeights:
    """A network's tensors in float16, each made when it is written; statistics as the exporter expects them."""
    network = build_on_meta(config)
    tensors = {}
    for name, value in network.state_dict().items():
        fill = 1.0 if name.endswith("embedding_std") else 0.0
        tensors[name] = LazyTensor(
            tuple(value.shape),
            torch.float16,
            lambda shape=value.shape, fill=fill: torch.full(shape, fill, dtype=torch.float16),
        )
    return NetworkWeights(type(network).__name__, config, tensors, "karlo")


def measure(source: Path, *command: str) -> dict[str, float]:
    """Seconds and peak memory of a process that reads `source`, and that peak over the size of its largest file."""
    largest = max(path.stat().st_size for path in source.rglob("*.safetensors"))
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} ended with {status}"
    peak = usage.ru_maxrss * 1024
    return {
        "seconds": round(time.monotonic() - started, 1),
        "bytes": sum(path.stat().st_size for path in source.rglob("*.safetensors")),
        "largest_file_bytes": largest,
        "peak_memory_bytes": peak,
        "peak_over_largest_file": round(peak / largest, 2),
    }


if __name__ == "__main__":
    main()
