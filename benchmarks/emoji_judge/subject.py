"""What is measured: a loaded model, the judge and the real pictures, and how pictures are drawn and scored."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import NUM_FIRST, Judge, kind_of, shares
from PIL import Image
from torch import Tensor

import unclip
from unclip.checkpoint import networks_hash
from unclip.data import ImageTextSet, load_shards
from unclip.images import from_pil, grid, resize, save_png, to_uint8

CHUNK, CELL, SHEET_COLUMNS = 16, 64, 20
NUM_FAILURES, FAILURE_COLUMNS = 24, 8
SEED_STEP = 1_000_000
"""Between the seeds of the pictures of a prompt, where CLIP chooses the best of several."""
LEAST_SIDE = 64


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under measurement."""

    pipe: unclip.UnClip
    judge: Judge
    shards: Path
    """The folder that holds `train` and `test`."""
    train: ImageTextSet
    test: ImageTextSet
    image_size: int
    """Side of the pictures that are drawn."""
    options: Mapping[str, Any]
    """Options of every task."""
    sheets: Path | None = None
    """Where contact sheets go."""
    drawings: Path | None = None
    """Where drawn pictures are kept, so that another judge need not draw them again."""
    failures: Path | None = None
    """Where the gallery of failures goes."""
    fingerprint: str = ""
    """Of the model's weights."""
    cache: dict[str, Any] = field(default_factory=dict)
    """Pictures that several parts use."""

    @classmethod
    def open(
        cls,
        model: str,
        judge: Path,
        shards: Path,
        image_size: int | None,
        options: Mapping[str, Any],
        sheets: Path | None,
        drawings: Path | None,
        failures: Path | None = None,
    ) -> "Subject":
        """Load a model, the judge and the pictures; the default size is the model's smallest from 64 px on."""
        pipe = unclip.UnClip.load(model)
        sizes = pipe.image_sizes
        size = image_size or min((side for side in sizes if side >= LEAST_SIDE), default=max(sizes))
        train, test = (load_shards(shards / split, CELL) for split in ("train", "test"))
        fingerprint = networks_hash(pipe.source().networks)
        return cls(pipe, Judge.load(judge), shards, train, test, size, options, sheets, drawings, failures, fingerprint)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Tensor:
        """Draw one picture of each prompt: uint8 (prompts, CELL, CELL, 3), scaled as the judge reads them."""

        def task(chunk: slice) -> list[Image.Image]:
            tries = range(self.options.get("best_of") or 1)
            each = [seed + SEED_STEP * number for seed in seeds[chunk] for number in tries]
            result = self.pipe.text_to_image(
                prompts[chunk], seed=each, image_size=self.image_size, batch_size=CHUNK, **self.options
            )
            return list(result.images)

        return self._kept(task, len(prompts), what, [list(prompts), list(seeds)])

    def vary(self, pictures: Sequence[Image.Image], seeds: Sequence[int], what: str) -> Tensor:
        """Draw one picture of the image embedding of each picture: uint8 (pictures, CELL, CELL, 3)."""

        def task(chunk: slice) -> list[Image.Image]:
            result = self.pipe.image_variations(
                pictures[chunk], seed=list(seeds[chunk]), image_size=self.image_size, batch_size=CHUNK, **self.options
            )
            return list(result.images)

        hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]
        return self._kept(task, len(pictures), what, [hashes, list(seeds)])

    def _kept(self, task: Callable[[slice], list[Image.Image]], count: int, what: str, inputs: list[Any]) -> Tensor:
        """Return the pictures that `task` draws of slices of `count`, from `drawings` if they were drawn before."""
        # The model's own settings, too: they may change while the weights do not.
        settings = {name: stage.defaults.model_dump(mode="json") for name, stage in self.pipe.stages.items()}
        request = json.dumps([self.fingerprint, settings, self.image_size, self.options, what, inputs], sort_keys=True)
        name = f"{what.replace(' ', '-')}-{hashlib.sha256(request.encode()).hexdigest()[:16]}.npy"
        path = self.drawings / name if self.drawings else None
        if path is not None and path.exists():
            return torch.from_numpy(np.load(path))
        parts, started = [], time.monotonic()
        for first in range(0, count, CHUNK):
            images = resize(from_pil(task(slice(first, first + CHUNK))), CELL)
            parts.append(torch.from_numpy(to_uint8(images)))
            done, seconds = min(first + CHUNK, count), time.monotonic() - started
            print(f"{what}: {done} of {count} pictures, {seconds / done:.2f} s each", file=sys.stderr, flush=True)
        drawn = torch.cat(parts)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, drawn.numpy())
        return drawn

    def sheet(self, name: str, pictures: Tensor, prompts: Sequence[str], ranks: Tensor) -> None:
        """Save pictures as a contact sheet, and beside it each prompt with the rank that the judge gave."""
        if self.sheets is None:
            return
        self.sheets.mkdir(parents=True, exist_ok=True)
        save_png(
            grid([Image.fromarray(np.asarray(each)) for each in pictures], SHEET_COLUMNS), self.sheets / f"{name}.png"
        )
        lines = [
            f"{place}\t{rank}\t{prompt}"
            for place, (prompt, rank) in enumerate(zip(prompts, ranks.tolist(), strict=True))
        ]
        (self.sheets / f"{name}.txt").write_text("\n".join(lines) + "\n")

    def show_failures(self, pictures: Tensor, prompts: Sequence[str], ranks: Tensor) -> None:
        """Save pictures that the judge does not name among its first five, chosen by a seed, with their prompts."""
        failed = np.flatnonzero(ranks.numpy() >= NUM_FIRST)
        if self.failures is None or not len(failed):
            return
        chosen = np.sort(np.random.default_rng(0).permutation(failed)[:NUM_FAILURES]).tolist()
        sheet = grid([Image.fromarray(np.asarray(pictures[place])) for place in chosen], FAILURE_COLUMNS)
        save_png(sheet, self.failures, {"prompts": "\n".join(prompts[place] for place in chosen)})


def compare(judge: Judge, drawn: Tensor, real: Tensor, infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Score drawn pictures of items and the real ones beside them, all and by heading.

    `drawn` and `real` are features (items, dim).
    """
    concepts = [[info["concept"]] for info in infos]
    kinds = [kind_of(info["group"]) for info in infos]
    ranks, real_ranks = judge.ranks(drawn, concepts), judge.ranks(real, concepts)
    result = beside(ranks, real_ranks)
    for kind in dict.fromkeys(kinds):
        rows = torch.tensor([each == kind for each in kinds])
        result[kind] = beside(ranks[rows], real_ranks[rows])
    return result


def beside(ranks: Tensor, real_ranks: Tensor) -> dict[str, Any]:
    """Return top-1, top-5 and their count, those of real pictures, and their quotients."""
    drawn, real = shares(ranks), shares(real_ranks)
    quotients = [round(ours / max(theirs, 1e-9), 4) for ours, theirs in zip(drawn[:2], real[:2], strict=True)]
    return {
        **drawn._asdict(),
        "real_top1": real.top1,
        "real_top5": real.top5,
        "top1_of_real": quotients[0],
        "top5_of_real": quotients[1],
    }
