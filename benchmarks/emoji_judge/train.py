"""Train the judge of drawn emoji on the training items alone: a classifier of concepts under heavy augmentation.

    python benchmarks/emoji_judge/train.py --shards runs/emoji_judge/shards [--images 200000] [--out judge.safetensors]

`--shards` holds the folders `train` and `test`; they are drawn if they are missing. Every (concept, design) is drawn
equally often. Prints the figures on real pictures of both splits, and writes weights in int8 and figures as JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from augment import augment  # noqa: E402
from network import WEIGHTS, Judge, JudgeConfig, JudgeNetwork, kind_of, shares  # noqa: E402
from record import write_result  # noqa: E402

from unclip.data import BalancedOrder, ImageTextSet, load_shards, write_emoji_shards  # noqa: E402
from unclip.images import from_uint8, resize  # noqa: E402
from unclip.runtime import autocast, forked_random_state, seeded  # noqa: E402
from unclip.training.precision import fastest_precision  # noqa: E402

SIDE, BATCH, LEARNING_RATE, SMOOTHING, DESIGN_WEIGHT, REPORTED = 64, 128, 3e-3, 0.1, 0.3, 100
SMALLER = {0.0: 32, 0.4: 48, 0.7: SIDE}
"""Side of the pictures from each share of the training on: at 32 px a step costs a quarter."""


def main() -> None:
    """Train, evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=Path("runs/emoji_judge/shards"))
    parser.add_argument("--images", type=int, default=200_000, help="Pictures to train on.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="A judge to go on from; concepts that it lacks begin anew.")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--json", type=Path, default=HERE.parent / "results" / "emoji_judge.json")
    arguments = parser.parse_args()
    sets = {split: open_split(arguments.shards, split) for split in ("train", "test")}
    started = time.monotonic()
    start = None if arguments.start is None else Judge.load(arguments.start)
    network = train(sets["train"], arguments.images, arguments.seed, start=start)
    seconds = time.monotonic() - started
    Judge(network).save(arguments.out)
    judge = Judge.load(arguments.out)  # figures are those of the rounded weights
    figures = {split: evaluate(judge, pictures) for split, pictures in sets.items()}
    result = {"images": arguments.images, "seconds": round(seconds), "sha256": judge.fingerprint, **figures}
    print(json.dumps(write_result(arguments.json, result)))


def open_split(folder: Path, split: str) -> ImageTextSet:
    """Open the pictures of a split, drawn first if they are missing; without compositions, which have two concepts."""
    if not (folder / split).exists():
        write_emoji_shards(folder / split, 2 * SIDE, split)
    return load_shards(folder / split, SIDE)


def train(
    pictures: ImageTextSet, num_images: int, seed: int, batch_size: int = BATCH, start: Judge | None = None
) -> JudgeNetwork:
    """Train a network on balanced batches; the learning rate rises for a tenth and falls to nothing.

    What goes on from `start` has half the learning rate, and pictures of full size at once.
    """
    rows = [row for row, info in enumerate(pictures.info) if info["concept"] and not info.get("composition")]
    infos = [pictures.info[row] for row in rows]
    config = JudgeConfig(
        concepts=tuple(sorted({info["concept"] for info in infos})),
        designs=tuple(sorted({info["design"] for info in infos})),
    )
    labels = torch.tensor(
        [[config.concepts.index(info["concept"]), config.designs.index(info["design"])] for info in infos]
    )
    images = torch.from_numpy(pictures.images[rows])
    order = BalancedOrder((labels[:, 0] * len(config.designs) + labels[:, 1]).numpy(), seed)
    with forked_random_state(seed):
        network = JudgeNetwork(config).to(memory_format=torch.channels_last)
    if start is not None:
        take_over(network, start.network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    device = torch.device("cpu")
    dtype = getattr(torch, fastest_precision(device))
    num_steps = max(num_images // batch_size, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE if start is None else LEARNING_RATE / 2, num_steps, pct_start=0.1, cycle_momentum=False
    )
    for step in range(num_steps):
        batch = torch.from_numpy(order.batch(step * batch_size, batch_size))
        changed = augment(from_uint8(images[batch]), seeded(seed, step))
        side = SIDE if start else max(side for share, side in SMALLER.items() if step >= share * num_steps)
        with autocast(device, dtype):
            loss = loss_of(network, resize(changed, side), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % REPORTED == REPORTED - 1:
            print(f"{(step + 1) * batch_size} images, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return network.eval()


@torch.no_grad()
def take_over(network: JudgeNetwork, start: JudgeNetwork) -> None:
    """Copy the trunk of a judge, and the rows of its heads whose names `network` has too."""
    network.trunk.load_state_dict(start.trunk.state_dict())
    for head, names, old_head, old_names in (
        (network.concepts, network.config.concepts, start.concepts, start.config.concepts),
        (network.designs, network.config.designs, start.designs, start.config.designs),
    ):
        rows = [(names.index(name), place) for place, name in enumerate(old_names) if name in names]
        new, old = (torch.tensor(each) for each in zip(*rows, strict=True))
        head.weight[new], head.bias[new] = old_head.weight[old], old_head.bias[old]


def loss_of(network: JudgeNetwork, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of concepts and, with less weight, of designs: the features shall tell both."""
    features = network(images)
    of_concepts = F.cross_entropy(network.concepts(features), labels[:, 0], label_smoothing=SMOOTHING)
    return of_concepts + DESIGN_WEIGHT * F.cross_entropy(network.designs(features), labels[:, 1])


def evaluate(judge: Judge, pictures: ImageTextSet) -> dict[str, dict[str, float]]:
    """Score real pictures by heading; those of concepts that the training set lacks are left out and counted."""
    known = [row for row, info in enumerate(pictures.info) if info["concept"] in judge.places]
    infos = [pictures.info[row] for row in known]
    features = judge.features(torch.from_numpy(pictures.images[known]))
    ranks = judge.ranks(features, [[info["concept"]] for info in infos])
    kinds = [kind_of(info["group"]) for info in infos]
    names = [judge.network.config.designs[place] for place in judge.design_logits(features).argmax(dim=1)]
    is_right = [name == info["design"] for name, info in zip(names, infos, strict=True)]
    figures = {
        kind: shares(ranks[torch.tensor([each == kind for each in kinds])])._asdict()
        for kind in ("people", "flags", "others")
    }
    whole = shares(ranks)._asdict() | {"design": round(sum(is_right) / len(is_right), 4)}
    return {"all": whole, **figures, "unknown": {"count": len(pictures.info) - len(known)}}


if __name__ == "__main__":
    main()
