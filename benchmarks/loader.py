"""Claim: reading is no bottleneck: pictures come faster than the smallest model of the recipes trains on them.

    OMP_NUM_THREADS=1 python benchmarks/loader.py

Draws emoji at 256 px into shards in a temporary folder, then reads them shuffled, at 64 px, in batches: from the cache
and decoding each, by 0, 1 and 2 worker processes. Beside it the steps of `emoji/clip` (forward, backward, AdamW) on
pictures that lie in memory (median step), on one core too. The start of the workers is not in the images per second.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import write_result
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unclip.clip import Clip, Tokenizer, contrastive_loss
from unclip.data import EmojiItem, Order, PictureSet, emoji_items, open_pictures, write_shards
from unclip.recipes import emoji
from unclip.runtime import autocast, inference_dtype

IMAGE_SIZE, SOURCE_SIZE, BATCH_SIZE = 64, 256, 100
NUM_WORKERS = (0, 1, 2)
NUM_STEPS = 12
NUM_EPOCHS = 5


class Batches(Dataset[Tensor]):
    """Shuffled batches; enough of them that those fetched before the clock starts do not count."""

    def __init__(self, pictures: PictureSet) -> None:
        self.pictures, self.order = pictures, Order(pictures.shard_sizes, seed=0)

    def __len__(self) -> int:
        return NUM_EPOCHS * len(self.pictures) // BATCH_SIZE

    def __getitem__(self, number: int) -> Tensor:
        indices = self.order.batch(number * BATCH_SIZE, BATCH_SIZE)
        pixels = [self.pictures.item(int(index)).pixels[IMAGE_SIZE] for index in indices]
        return torch.from_numpy(np.stack(pixels))


def main() -> None:
    """Print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loader.json"))
    arguments = parser.parse_args()
    items = emoji_items("train")[:: max(1, 12_000 // arguments.pictures)][: arguments.pictures]
    model = train_speed(items)
    figures = {"emoji/clip": {"images_per_second": model}}
    print(f"{'emoji/clip trains on':24} {model:7.0f} images/s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "set", items, SOURCE_SIZE, "emoji")
        for name, cache in (("cached", True), ("streamed", False)):
            pictures = open_pictures(Path(folder) / "set", [IMAGE_SIZE], cache=cache)
            for num_workers in NUM_WORKERS:
                speed = read_speed(pictures, num_workers)
                figures[f"{name}, {num_workers} workers"] = {"images_per_second": speed, "ratio": speed / model}
                print(f"{name}, {num_workers} workers {'':6} {speed:7.0f} images/s, {speed / model:.1f} x", flush=True)
    result = {"image_size": IMAGE_SIZE, "source_size": SOURCE_SIZE, "pictures": len(items), "figures": figures}
    result["torch_threads"] = torch.get_num_threads()
    print(json.dumps(write_result(arguments.out, result)))


def read_speed(pictures: PictureSet, num_workers: int) -> float:
    """Images per second from the first batch on."""
    loader = DataLoader(Batches(pictures), batch_size=None, num_workers=num_workers)
    batches = iter(loader)
    next(batches)
    started = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return round(count / (time.perf_counter() - started), 1)


def train_speed(items: list[EmojiItem]) -> float:
    """Images per second of training steps on random pixels and the real captions."""
    config = emoji.clip()
    model = Clip(emoji.CLIP)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    vocabulary = [caption for item in emoji_items("train") for caption in item.captions]
    texts = [item.captions[0] for item in items][: config.batch_size]
    tokens = Tokenizer.train(vocabulary, emoji.CLIP.vocab_size).encode(texts, emoji.CLIP.context_length)
    ids = tokens.ids[:, : int(tokens.mask.sum(dim=1).max())]
    images = torch.rand(len(texts), 3, emoji.CLIP.image_size, emoji.CLIP.image_size) * 2.0 - 1.0
    device = torch.device("cpu")
    seconds = []
    for _ in range(NUM_STEPS):
        started = time.perf_counter()
        with autocast(device, inference_dtype(device)):
            text = model.encode_tokens(ids)
            loss = contrastive_loss(model.encode_pixels(images), text.embedding, model.logit_scale)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return round(len(texts) / statistics.median(seconds), 1)


if __name__ == "__main__":
    main()
