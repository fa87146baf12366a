"""Claim: the shipped upsampler to 1024 px is nearer to the truth than bicubic enlargement, on pictures it never saw.

    python benchmarks/upsampler_quality.py [--num-images 40] [--num-steps 1 2]

Pictures of the test split are rasterised at 1024 px, shrunk to 256 (antialiased bicubic) and enlarged again: as they
are, and after the damage of training (seed 0). PSNR in dB over 8-bit pixels, the mean over pictures.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from record import write_result
from torch import Tensor

import unclip
from unclip.data import ImageTextSet, emoji_items, load_shards, write_shards
from unclip.images import from_uint8, resize, to_uint8
from unclip.metrics import psnr
from unclip.pipelines import UpsamplerStage
from unclip.runtime import NoiseSource, seeded
from unclip.training.tasks.degrade import degrade


def main() -> None:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--num-images", type=int, default=40)
    parser.add_argument("--num-steps", type=int, nargs="+", default=[1])
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji/shards-1024-test"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/upsampler_quality.json"))
    arguments = parser.parse_args()
    stage = unclip.UnClip.load(arguments.model).upsamplers[1024].stage
    if not arguments.shards.exists():
        items = emoji_items("test")
        write_shards(arguments.shards, items[:: len(items) // arguments.num_images], 1024, "emoji-test")
    small, large = load_shards(arguments.shards, 256), load_shards(arguments.shards, 1024)
    result = {
        "num_images": min(arguments.num_images, len(large)),
        **measure(stage, small, large, arguments),
    }
    print(json.dumps(write_result(arguments.out, result)))


@torch.inference_mode()
def measure(
    stage: UpsamplerStage, small: ImageTextSet, large: ImageTextSet, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Mean PSNR by kind of input and way of enlarging."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for index in range(min(arguments.num_images, len(large))):
        truth, low_res = (from_uint8(pictures.images[index : index + 1]) for pictures in (large, small))
        for kind, given in (("clean", low_res), ("damaged", degrade(low_res, [seeded(0, index)]))):
            values[kind, "bicubic"].append(decibels(resize(given, 1024), truth))
            for num_steps in arguments.num_steps:
                settings = stage.defaults.replace(num_steps=num_steps)
                enlarged = stage.sample(opaque(given, stage), NoiseSource.from_seeds([index]), settings)
                values[kind, f"steps_{num_steps}"].append(decibels(enlarged[:, :3], truth))
    kinds = {
        kind: {way: round(float(np.mean(v)), 2) for (k, way), v in values.items() if k == kind} for kind, _ in values
    }
    better = np.mean(
        np.array(values["clean", f"steps_{arguments.num_steps[0]}"]) > np.array(values["clean", "bicubic"])
    )
    return {**kinds, "share_of_clean_above_bicubic": round(float(better), 2)}


def opaque(images: Tensor, stage: UpsamplerStage) -> Tensor:
    """Add full coverage for a stage that reads it."""
    missing = stage.network.config.in_channels - images.shape[1]
    return torch.cat([images, images.new_ones(len(images), missing, *images.shape[2:])], dim=1)


def decibels(image: Tensor, truth: Tensor) -> float:
    """Of 8-bit pixels, which is what a file holds."""
    return float(psnr(from_uint8(to_uint8(image)), truth))


if __name__ == "__main__":
    main()
