"""Claim: `unclip embed` keeps CLIP's towers busy: at least 90 % of their own speed on pictures already in memory.

    python benchmarks/embed.py [--clip vit-b-32] [--samples 1024] [--image-size 256]

Random weights of the given architecture read PNG shards of emoji, which it writes first. Both sides run in turns, with
one thread for the towers; the other core decodes. What `embed` needs to start (hash, first batch) is counted.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from record import write_result

from unclip.clip import Clip, TextImageEncoder, Tokenizer, clip_preset
from unclip.data import ShardSet, embed, emoji_items, write_shards
from unclip.data.embed import read_pictures, to_pixels
from unclip.runtime import resolve_device

LIMIT = 0.9


def main() -> None:
    """Print images/s of both sides and the ratio of medians, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", default="vit-b-32", help="a preset")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/embed.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = resolve_device(options.device)
    encoder = TextImageEncoder(Clip(clip_preset(options.clip)).requires_grad_(False), Tokenizer.openai()).to(device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = emoji_items("train")
        write_shards(
            folder / "shards", items[:: len(items) // options.samples][: options.samples], options.image_size, "b"
        )
        shards = ShardSet.open(folder / "shards")
        own, whole = [], []
        for number in range(options.rounds):
            own.append(len(shards) / tower_seconds(encoder, shards, options.batch_size))
            with timed() as seconds:
                out = folder / f"out-{number}"
                embed(shards, encoder, out, batch_size=options.batch_size, num_workers=options.workers)
            whole.append(len(shards) / seconds[0])
    result = {
        "clip": options.clip,
        "device": str(device),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "num_workers": options.workers,
        "tower_images_per_second": [round(speed, 1) for speed in own],
        "embed_images_per_second": [round(speed, 1) for speed in whole],
        "share": round(median(whole) / median(own), 3),
        "limit": LIMIT,
    }
    print(json.dumps(write_result(options.out, result)))


@torch.inference_mode()
def tower_seconds(encoder: TextImageEncoder, shards: ShardSet, batch_size: int) -> float:
    """Seconds of both towers alone, on decoded pictures and on the captions as `embed` reads them."""
    config, chosen = encoder.clip.config, range(len(shards.shard_names))
    batches = list(read_pictures(shards, chosen, batch_size, config, 0, False))
    captions = {caption: None for batch in batches for texts in batch.captions for caption in texts}
    ids, mask, _ = encoder.tokenizer.encode(list(captions), config.context_length)
    lengths = mask.sum(dim=1)
    with timed() as seconds:
        for batch in batches:
            encoder.encode_image(to_pixels(batch.pixels, encoder.device))
        for rows in lengths.argsort().split(batch_size):
            encoder.clip.encode_tokens(ids[rows, : int(lengths[rows].max())].to(encoder.device), encoder.compute_dtype)
    return seconds[0]


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that holds the seconds of the block once it has ended."""
    seconds: list[float] = []
    started = time.monotonic()
    yield seconds
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds.append(time.monotonic() - started)


if __name__ == "__main__":
    main()
