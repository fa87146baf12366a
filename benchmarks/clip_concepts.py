"""Claim: balance moves what CLIP learns from people to everything else, and positives gain a little everywhere.

    python benchmarks/clip_concepts.py [--folder runs/clip-concepts] [--images 60000]

Trains `emoji/clip` in five ways on the training pictures at 64 px, each for as many images, and asks each for the
concept of a picture among all names: of the test pictures, and of every 18th training picture. A run that is there is
not trained again; each takes some three minutes on two cores.
"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from record import write_result
from torch.nn import functional as F

from unclip.clip import TextImageEncoder
from unclip.data import EmojiItem, emoji_items, rasterize, write_emoji_shards
from unclip.recipes import get_recipe
from unclip.training import train

SIDE, EVERY, BATCH = 64, 18, 128
RUNS = {
    "plain": {},
    "positives": {"positives": ("label",)},
    "sqrt_positives": {"balance": ("concept",), "balance_power": 0.5, "positives": ("label",)},
    "balance": {"balance": ("concept",)},
    "balance_positives": {"balance": ("concept",), "positives": ("label",)},
}


def main() -> None:
    """Train what is missing, evaluate all, print each and write the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/clip-concepts"), help="Shards and runs.")
    parser.add_argument("--images", type=int, default=60_000, help="Images of each run.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/clip_concepts.json"))
    arguments = parser.parse_args()
    figures = {}
    for name, changes in RUNS.items():
        run = arguments.folder / name
        if not (run / "clip.safetensors").exists():
            train_clip(arguments.folder, run, arguments.images, changes)
        clip = TextImageEncoder.load(run)
        figures[name] = {split: evaluate(clip, items) for split, items in chosen().items()}
        print(f"{name:18} {json.dumps(figures[name])}", flush=True)
    print(json.dumps(write_result(arguments.out, {"num_images": arguments.images, "runs": figures})))


def train_clip(folder: Path, run: Path, num_images: int, changes: dict[str, object]) -> None:
    """Train one way, without previews."""
    if not (folder / "shards").exists():
        write_emoji_shards(folder / "shards", SIDE, "train")
    config = get_recipe("emoji/clip")
    balance = {name: value for name, value in changes.items() if name.startswith("balance")}
    positives = {name: value for name, value in changes.items() if name == "positives"}
    data = config.data.replace(folder=str(folder / "shards"), source_size=SIDE, **balance)
    task = config.task.replace(**positives)
    train(config.replace(data=data, task=task, num_images=num_images, preview_images=num_images), run)


def chosen() -> dict[str, list[EmojiItem]]:
    """All test pictures, and some of the training pictures."""
    items = emoji_items()
    return {"test": [item for item in items if item.test], "train": [i for i in items if not i.test][::EVERY]}


@torch.inference_mode()
def evaluate(clip: TextImageEncoder, items: list[EmojiItem]) -> dict[str, dict[str, float]]:
    """Rank all concepts by their name for each picture: shares whose concept is first, and among the first five."""
    names = sorted({item.concept for item in emoji_items()})
    texts = torch.cat([clip.encode_text(names[k : k + BATCH]).embedding for k in range(0, len(names), BATCH)])
    pictures = [Image.fromarray(rasterize(item, SIDE)) for item in items]
    images = torch.cat([clip.encode_pictures(pictures[k : k + BATCH]) for k in range(0, len(items), BATCH)])
    scores = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    own = scores.gather(1, torch.tensor([names.index(item.concept) for item in items])[:, None])
    ranks = (scores > own).sum(dim=1)
    is_person = torch.tensor([item.group == "people-body" for item in items])
    return {kind: shares(ranks[rows]) for kind, rows in (("people", is_person), ("others", ~is_person))}


def shares(ranks: torch.Tensor) -> dict[str, float]:
    """Top-1 and top-5, and of how many pictures."""
    top1, top5 = ((ranks < count).float().mean().item() for count in (1, 5))
    return {"top1": round(top1, 4), "top5": round(top5, 4), "num_pictures": len(ranks)}


if __name__ == "__main__":
    main()
