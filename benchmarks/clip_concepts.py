"""Claim: balance moves what CLIP learns from people to the rest, prototypes teach concepts, a teacher unseen words.

    python benchmarks/clip_concepts.py [--folder runs/clip-concepts] [--images 60000] [--runs classes,teacher]
    python benchmarks/clip_concepts.py --clip runs/emoji/clip

Trains `emoji/clip` in several ways on the training pictures at 64 px, each for as many images, and asks each for the
concept of a picture among all names, for its design among the designs, and for the concept of words and phrases that
are no captions (`clip_words_dev.jsonl`, a list for development). A run that is there is not trained again.
"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from record import write_result
from torch.nn import functional as F

from unclip.clip import TextImageEncoder
from unclip.data import DESIGNS, EmojiItem, emoji_items, rasterize, write_emoji_shards
from unclip.recipes import get_recipe
from unclip.training import train

SIDE, EVERY, BATCH = 64, 18, 128
WORDS = Path(__file__).with_name("clip_words_dev.jsonl")
CONTRAST = {"positives": (), "classes": (), "teacher": None, "phrases": None}
BALANCE = {"balance": ("concept", "design")}
RUNS = {
    "plain": {},
    "positives": {"positives": ("label",)},
    "sqrt_positives": {"balance": ("concept",), "balance_power": 0.5, "positives": ("label",)},
    "balance": {"balance": ("concept",)},
    "balance_positives": {"balance": ("concept",), "positives": ("label",)},
    "classes": {**BALANCE, "positives": ("label",), "classes": ("concept",)},
    "teacher": {**BALANCE, **{name: getattr(get_recipe("emoji/clip").task, name) for name in CONTRAST}},
}


def main() -> None:
    """Train what is missing, evaluate all, print each and write the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/clip-concepts"), help="Shards and runs.")
    parser.add_argument("--images", type=int, default=60_000, help="Images of each run.")
    parser.add_argument("--runs", default=",".join(RUNS), help="Which of them.")
    parser.add_argument("--clip", type=Path, help="Evaluate this trained CLIP alone.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/clip_concepts.json"))
    arguments = parser.parse_args()
    figures = {}
    for name in arguments.runs.split(",") if arguments.clip is None else [str(arguments.clip)]:
        run = arguments.clip or arguments.folder / name
        if not (run / "clip.safetensors").exists():
            train_clip(arguments.folder, run, arguments.images, RUNS[name])
        clip = TextImageEncoder.load(run)
        figures[name] = {split: evaluate(clip, items) for split, items in chosen().items()} | {"words": words(clip)}
        print(f"{name:18} {json.dumps(figures[name])}", flush=True)
    if arguments.clip is None:
        print(json.dumps(write_result(arguments.out, {"num_images": arguments.images, "runs": figures})))


def train_clip(folder: Path, run: Path, num_images: int, changes: dict[str, object]) -> None:
    """Train one way, without previews."""
    if not (folder / "shards").exists():
        write_emoji_shards(folder / "shards", SIDE, "train")
    config = get_recipe("emoji/clip")
    balance = {"balance": ()} | {name: value for name, value in changes.items() if name.startswith("balance")}
    task = config.task.replace(**CONTRAST | {name: value for name, value in changes.items() if name in CONTRAST})
    data = config.data.replace(folder=str(folder / "shards"), source_size=SIDE, **balance)
    train(config.replace(data=data, task=task, num_images=num_images, preview_images=num_images), run)


def chosen() -> dict[str, list[EmojiItem]]:
    """All test pictures, and some of the training pictures."""
    items = emoji_items()
    return {"test": [item for item in items if item.test], "train": [i for i in items if not i.test][::EVERY]}


@torch.inference_mode()
def evaluate(clip: TextImageEncoder, items: list[EmojiItem]) -> dict[str, dict[str, float]]:
    """Rank all concepts by their name for each picture, and the designs by the label in each.

    Shares whose concept is first, and among the first five; and whose design is first.
    """
    names = sorted({item.concept for item in emoji_items()})
    pictures = [Image.fromarray(rasterize(item, SIDE)) for item in items]
    images = [clip.encode_pictures(pictures[k : k + BATCH]) for k in range(0, len(items), BATCH)]
    images = F.normalize(torch.cat(images), dim=-1)
    scores = images @ encode(clip, names).T
    own = scores.gather(1, torch.tensor([names.index(item.concept) for item in items])[:, None])
    ranks = (scores > own).sum(dim=1)
    captions = [f"{item.label}, {design.replace('-', ' ')} style" for item in items for design in DESIGNS]
    styles = (encode(clip, captions).view(len(items), len(DESIGNS), -1) @ images[..., None])[..., 0]
    is_design = styles.argmax(dim=1) == torch.tensor([DESIGNS.index(item.design) for item in items])
    is_person = torch.tensor([item.group == "people-body" for item in items])
    return {
        kind: shares(ranks[rows]) | {"design": round(is_design[rows].float().mean().item(), 4)}
        for kind, rows in (("people", is_person), ("others", ~is_person))
    }


@torch.inference_mode()
def words(clip: TextImageEncoder) -> dict[str, float]:
    """Rank all concepts by their name for words and phrases; a line of the list may name several right ones."""
    names = sorted({item.concept for item in emoji_items()})
    lines = [json.loads(line) for line in WORDS.read_text().splitlines()]
    scores = encode(clip, [line["text"] for line in lines]) @ encode(clip, names).T
    right = torch.tensor([[name in line["concepts"] for name in names] for line in lines])
    best = scores.masked_fill(~right, -2.0).amax(dim=1, keepdim=True)
    return shares((scores > best).sum(dim=1))


def encode(clip: TextImageEncoder, texts: list[str]) -> torch.Tensor:
    """Text embeddings of length 1."""
    parts = [clip.encode_text(texts[k : k + BATCH]).embedding for k in range(0, len(texts), BATCH)]
    return F.normalize(torch.cat(parts), dim=-1)


def shares(ranks: torch.Tensor) -> dict[str, float]:
    """Top-1 and top-5, and of how many."""
    top1, top5 = ((ranks < count).float().mean().item() for count in (1, 5))
    return {"top1": round(top1, 4), "top5": round(top5, 4), "count": len(ranks)}


if __name__ == "__main__":
    main()
