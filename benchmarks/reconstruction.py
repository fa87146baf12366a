"""Claim: real pictures of the test split come back from their own noise at 25 dB or more, at 64 px in 100 steps.

    python benchmarks/reconstruction.py [--num-images 24]

Each picture goes to its x_T by DDIM and back (eta = 0). At 128 px it is compared with what the decoder draws, at 256 px
with what the upsampler makes of that, at 64 px with the same, both averaged over 4 x 4 pixels.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from record import write_result

import unclip
from unclip.data import emoji_items, rasterize
from unclip.images import cover, from_pil
from unclip.metrics import psnr

BATCH = 8


def main() -> None:
    """Print mean and worst PSNR at each size, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--num-images", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reconstruction.json"))
    arguments = parser.parse_args()
    pipe, items = unclip.UnClip.load(arguments.model), emoji_items("test")
    chosen = np.random.default_rng(0).permutation(len(items))[: arguments.num_images]
    pictures = [Image.fromarray(rasterize(items[index], 256)) for index in chosen]
    result: dict[str, Any] = {"num_images": len(pictures), "runs": []}
    for steps, exact in ((25, False), (25, True), (100, True)):
        run = {"decoder_steps": steps, "exact": exact, **measure(pipe, pictures, steps, exact)}
        result["runs"].append(run)
        print(json.dumps(run), flush=True)
    write_result(arguments.out, result)


def measure(pipe: unclip.UnClip, pictures: list[Image.Image], steps: int, exact: bool) -> dict[str, Any]:
    """Mean and least PSNR by size, and seconds a picture."""
    options: dict[str, Any] = {"eta": 0.0, "seed": 0, "num_steps": {"decoder": steps}, "output_type": "pt"}
    started = time.monotonic()
    large = torch.stack(pipe.image_variations(pictures, exact=exact, batch_size=BATCH, **options).images)
    seconds = (time.monotonic() - started) / len(pictures)
    small = torch.stack(pipe.image_variations(pictures, image_size=128, batch_size=BATCH, **options).images)
    real = from_pil(pictures)
    pairs = {
        128: (small, from_pil([cover(picture, (128, 128)) for picture in pictures])),
        64: (F.avg_pool2d(large, 4), F.avg_pool2d(real, 4)),
        256: (large, real),
    }
    found = {size: psnr(*pair) for size, pair in pairs.items()}
    return {
        "mean_db": {size: round(float(values.mean()), 1) for size, values in found.items()},
        "least_db": {size: round(float(values.min()), 1) for size, values in found.items()},
        "seconds_per_picture": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
