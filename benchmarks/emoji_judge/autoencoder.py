"""Measure an autoencoder alone: PSNR on real test pictures, and how often the judge names the same concept.

    python benchmarks/emoji_judge/autoencoder.py FOLDER --shards runs/emoji_judge/shards [--image-size 128] [--json OUT]

FOLDER is that of a training run or of a model. `judge.py --parts stages` measures the same of a whole model.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from network import WEIGHTS, Judge, shares  # noqa: E402
from record import write_result  # noqa: E402

from unclip.checkpoint import fill  # noqa: E402
from unclip.data import ShardSet, open_pictures  # noqa: E402
from unclip.errors import UnclipError  # noqa: E402
from unclip.images import from_uint8  # noqa: E402
from unclip.metrics import psnr  # noqa: E402
from unclip.model.families import build_on_meta  # noqa: E402
from unclip.model.folder import open_network  # noqa: E402

BATCH = 16


def main() -> int:
    """Measure and print; the exit code is 2 for a wrong call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji_judge/shards"), help="folder of train and test")
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--num-pictures", type=int, help="default: all test pictures")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    try:
        weights = open_network(arguments.folder / "autoencoder.safetensors", "autoencoder")
        network = build_on_meta(weights.config)
        fill(network, weights.tensors, weights.source)
        figures = rebuild(
            Judge.load(arguments.judge),
            lambda images: network.decode(network.encode(images)),
            arguments.shards / "test",
            arguments.image_size,
            network.config.in_channels,
            arguments.num_pictures,
        )
    except UnclipError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(write_result(arguments.json, figures) if arguments.json else figures))
    return 0


@torch.no_grad()
def rebuild(
    judge: Judge,
    through: Callable[[Tensor], Tensor],
    shards: Path,
    image_size: int,
    channels: int,
    count: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure pictures that went `through` latents, float32 (batch, channels, height, width) in [-1, 1] both ways.

    All pictures of `shards`, or `count` of them drawn by `seed`; `channels` is 4 for pictures with coverage.
    """
    pictures = open_pictures(shards, [image_size], channels=channels)
    opened = ShardSet.open(shards)
    concepts = [opened.sample(row).info["concept"] for row in range(len(opened))]
    known = [row for row, concept in enumerate(concepts) if concept in judge.places]
    rows = [known[place] for place in np.random.default_rng(seed).permutation(len(known))[:count]]
    colours, coverages, agreements, features = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        images = from_uint8(np.stack([pictures.item(row).pixels[image_size] for row in part]))
        rebuilt = through(images).float().clamp(-1.0, 1.0)
        colours.append(psnr(rebuilt[:, :3], images[:, :3]))
        coverages += [psnr(rebuilt[:, 3:], images[:, 3:])] if channels > 3 else []
        features.append(judge.features(rebuilt))
        names = [judge.logits(each).argmax(dim=1) for each in (features[-1], judge.features(images))]
        agreements.append(names[0] == names[1])
    decibels = torch.cat(colours)
    score = shares(judge.ranks(torch.cat(features), [[concepts[row]] for row in rows]))
    return {
        "psnr": round(float(decibels.mean()), 2),
        "psnr_lowest_twentieth": round(float(decibels.quantile(0.05)), 2),
        **({"psnr_coverage": round(float(torch.cat(coverages).mean()), 2)} if coverages else {}),
        "agreement": round(torch.cat(agreements).float().mean().item(), 4),
        "rebuilt_top1": score.top1,
        "num_pictures": len(rows),
    }


if __name__ == "__main__":
    sys.exit(main())
