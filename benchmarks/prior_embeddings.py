"""Claim: a prior trained on stored embeddings is as good as one that embeds every batch, and trains faster.

    OMP_NUM_THREADS=2 python benchmarks/prior_embeddings.py [--clip emoji] [--pictures 2000] [--batch-size 128]

Draws emoji at 64 px into shards in a temporary folder and embeds them once. Then two runs of one prior, with the same
samples, captions, noise and times, train in turns: on the shards of `unclip embed`, and with `task.embed=every_step`,
where a frozen CLIP sees each batch's pictures and captions. `--clip vit-b-32` takes an architecture with random weights
(OpenAI's own cost the same), whose losses mean nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from record import write_result

from unclip.clip import Clip, TextImageEncoder, Tokenizer, clip_preset
from unclip.data import embed, emoji_items, write_shards
from unclip.errors import InputError
from unclip.model import open_clip
from unclip.recipes import get_recipe
from unclip.training import Cluster, TrainConfig, Trainer, init_cluster, make_task
from unclip.training.logging import StepReport

SOURCE_SIZE = 64


def main() -> None:
    """Print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", default="emoji", help="a shipped model, or a preset for random weights")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10, help="steps of each side in a round")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prior_embeddings.json"))
    options = parser.parse_args()
    items = emoji_items("train")
    items = items[:: len(items) // options.pictures][: options.pictures]
    with tempfile.TemporaryDirectory() as name, init_cluster(options.device) as cluster:
        folder = Path(name)
        write_shards(folder / "shards", items, SOURCE_SIZE, "emoji")
        clip = load_clip(options.clip)
        clip.save(folder / "clip")
        clip.to(cluster.device)
        started = time.monotonic()
        embed(folder / "shards", clip, folder / "embeddings", hidden=True, num_workers=0)
        embed_seconds = time.monotonic() - started
        stored = stored_run(folder, clip, options.batch_size)
        every_step = stored.replace(
            data=stored.data.replace(embeddings=None), task=stored.task.replace(embed="every_step")
        )
        runs = {"stored": stored, "every_step": every_step}
        reports = in_turns({name: steps_of(run, cluster) for name, run in runs.items()}, options.rounds, options.steps)
    speeds = {name: [options.batch_size / report.seconds for report in found[1:]] for name, found in reports.items()}
    last = {name: statistics.mean(report.loss for report in found[-options.steps :]) for name, found in reports.items()}
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    result = {
        "clip": options.clip,
        "device": str(cluster.device),
        "torch_threads": torch.get_num_threads(),
        "pictures": len(items),
        "batch_size": options.batch_size,
        "images_seen": options.rounds * options.steps * options.batch_size,
        "images_per_second": {name: round(speed, 1) for name, speed in medians.items()},
        "ratio": round(medians["stored"] / medians["every_step"], 2),
        "loss_of_the_last_steps": {name: round(loss, 5) for name, loss in last.items()},
        "largest_difference_of_a_step": largest_difference(reports),
        "embed_seconds": round(embed_seconds, 1),
    }
    print(json.dumps(write_result(options.out, result)))


def load_clip(name: str) -> TextImageEncoder:
    """The CLIP of a model, else a preset with random weights."""
    try:
        config = clip_preset(name)
    except InputError:
        return open_clip(name, "cpu")
    torch.manual_seed(0)
    return TextImageEncoder(Clip(config).requires_grad_(False), Tokenizer.openai())


def stored_run(folder: Path, clip: TextImageEncoder, batch_size: int) -> TrainConfig:
    """The recipe emoji/prior on stored embeddings, at the sizes of that CLIP."""
    recipe, config = get_recipe("emoji/prior"), clip.clip.config
    model = recipe.task.model.replace(
        embedding_dim=config.embedding_dim, text_dim=config.text_width, num_text_tokens=config.context_length
    )
    return recipe.replace(
        task=recipe.task.replace(model=model, clip=folder / "clip"),
        data=recipe.data.replace(
            folder=str(folder / "shards"), emoji_split=None, embeddings=str(folder / "embeddings")
        ),
        optimizer=recipe.optimizer.replace(warmup_images=batch_size, decay="constant"),
        batch_size=batch_size,
    )


def steps_of(config: TrainConfig, cluster: Cluster) -> Iterator[StepReport]:
    """A run's steps, taken when they are asked for."""
    trainer = Trainer.open(config, cluster, make_task(config, cluster.device))
    while True:
        yield trainer.step()


def in_turns(runs: dict[str, Iterator[StepReport]], num_rounds: int, num_steps: int) -> dict[str, list[StepReport]]:
    """The reports of each run, whose steps come in groups, so that a slow minute of the machine meets both."""
    reports: dict[str, list[StepReport]] = {name: [] for name in runs}
    for number in range(num_rounds):
        for name, steps in runs.items():
            reports[name] += islice(steps, num_steps)
            print(f"round {number + 1}: {name:10} loss {reports[name][-1].loss:.4f}", flush=True)
    return reports


def largest_difference(reports: dict[str, list[StepReport]]) -> float:
    """Between the losses of two runs at the same step."""
    pairs = zip(*reports.values(), strict=True)
    return round(max(abs(one.loss - other.loss) for one, other in pairs), 5)


if __name__ == "__main__":
    main()
