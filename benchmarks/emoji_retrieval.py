"""Concept retrieval of the emoji model: text to image to CLIP, beside real pictures and shuffled captions.

    python benchmarks/emoji_retrieval.py [--model emoji] [--num-images 256] [--shards runs/emoji]

For each split: pictures drawn from captions, the real pictures (ceiling), and drawn pictures judged against another
caption (floor). The judge is the model's own CLIP, trained on the train split alone; it ranks all 1,940 concepts.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from record import write_result

import unclip
from unclip.data import ImageTextSet, emoji_items, load_shards, write_emoji_shards
from unclip.images import from_uint8
from unclip.metrics import retrieval

BATCH = 32


def main() -> None:
    """Print a table of both splits and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--num-images", type=int, default=256, help="pictures drawn per split")
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji"), help="folder for the rasterised splits")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/emoji_retrieval.json"))
    arguments = parser.parse_args()
    pipe = unclip.UnClip.load(arguments.model)
    concepts = sorted({item.concept for item in emoji_items()})
    started = time.monotonic()
    result = {split: measure(pipe, split, concepts, arguments) for split in ("train", "test")}
    result["num_concepts"], result["seconds"] = len(concepts), round(time.monotonic() - started, 1)
    print(json.dumps(write_result(arguments.out, result)))


def measure(
    pipe: unclip.UnClip, split: str, concepts: list[str], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Drawn, real and shuffled retrieval of one split."""
    folder = arguments.shards / ("shards-256" if split == "train" else f"shards-256-{split}")
    if not folder.exists():
        write_emoji_shards(folder, 256, split)
    pictures = load_shards(folder, 256)
    chosen = np.random.default_rng(0).permutation(len(pictures.keys))[: arguments.num_images]
    number = {concept: index for index, concept in enumerate(concepts)}
    targets = [number[pictures.info[index]["concept"]] for index in chosen]
    drawn = list(draw(pipe, [pictures.captions[index][0] for index in chosen]))
    shuffled = targets[1:] + targets[:1]
    rows = {
        "drawn": retrieval(pipe.clip, drawn, targets, concepts),
        "real": retrieval(pipe.clip, real(pictures, chosen), targets, concepts),
        "shuffled": retrieval(pipe.clip, drawn, shuffled, concepts),
    }
    for name, row in rows.items():
        print(f"{split:5} {name:8} top-1 {row.top1:6.1%}  top-5 {row.top5:6.1%}  of {row.num_images}", flush=True)
    return {name: row._asdict() for name, row in rows.items()}


def draw(pipe: unclip.UnClip, captions: list[str]) -> Iterator[torch.Tensor]:
    """One picture a caption, seed 0, the model's default settings."""
    for start in range(0, len(captions), BATCH):
        images = pipe.text_to_image(captions[start : start + BATCH], seed=0, output_type="pt", batch_size=BATCH).images
        yield torch.stack(images)


def real(pictures: ImageTextSet, chosen: np.ndarray) -> Iterator[torch.Tensor]:
    """The real pictures in batches."""
    for start in range(0, len(chosen), BATCH):
        yield from_uint8(np.stack([pictures.images[index] for index in chosen[start : start + BATCH]]))


if __name__ == "__main__":
    main()
