"""One process of an evaluation: the tiny model on digits, with its share in the environment, as torchrun sets it.

python evaluate_process.py FOLDER NUM_PROMPTS: reads FOLDER/reference, caches in FOLDER/cache, writes FOLDER/out.
"""

import os
import sys
from pathlib import Path

import torch

from tiny_features import tiny_network
from unclip.evaluate import EvaluateOptions, Evaluation, evaluate_model
from unclip.metrics import ClipFeatures
from unclip.testing import tiny_pipeline


def evaluate(folder: Path, num_prompts: int, node: tuple[int, int] = (0, 1)) -> Evaluation | None:
    judge = ClipFeatures(tiny_pipeline(seed=5).clip, "other")
    options = EvaluateOptions(
        node=node,
        cache=folder / "cache",
        pictures_per_chunk=2,
        seed=3,
        size=32,
        sweep={"guidance_scale.decoder": [1.0, 3.0]},
    )
    prompts = [f"the digit {number}" for number in range(num_prompts)]
    networks = [tiny_network(), judge]
    return evaluate_model(tiny_pipeline(), prompts, folder / "reference", networks, folder / "out", options=options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    evaluate(Path(sys.argv[1]), int(sys.argv[2]), (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])))
