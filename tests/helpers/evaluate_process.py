"""One process of an evaluation: the tiny model on digits, its share told as torchrun tells it.

python evaluate_process.py FOLDER NUM_PROMPTS: reads FOLDER/reference, caches in FOLDER/cache, writes FOLDER/out.
"""

import os
import sys
from pathlib import Path

import torch
from tiny_features import tiny_network

from unclip.evaluate import EvaluateOptions, evaluate_model
from unclip.metrics import ClipFeatures
from unclip.testing import tiny_pipeline

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, num_prompts = Path(sys.argv[1]), int(sys.argv[2])
    judge = ClipFeatures(tiny_pipeline(seed=5).clip, "other")
    options = EvaluateOptions(
        node=(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])),
        cache=folder / "cache",
        pictures_per_chunk=2,
        seed=3,
        size=32,
        sweep={"guidance_scale.decoder": [1.0, 3.0]},
    )
    prompts = [f"the digit {number}" for number in range(num_prompts)]
    evaluate_model(
        tiny_pipeline(), prompts, folder / "reference", [tiny_network(), judge], folder / "out", options=options
    )
