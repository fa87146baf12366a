"""What is measured: a loaded model, the judge and the real pictures, and how pictures are drawn and scored."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import Judge, kind_of, shares
from PIL import Image
from torch import Tensor

import unclip
from unclip.data import ImageTextSet, load_shards
from unclip.images import from_pil, grid, resize, save_png, to_uint8

CHUNK, CELL, SHEET_COLUMNS = 16, 64, 20
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
    ) -> "Subject":
        """Load a model, the judge and the pictures; the default size is the model's smallest from 64 px on."""
        pipe = unclip.UnClip.load(model)
        size = image_size or min(
            (side for side in pipe.image_sizes if side >= LEAST_SIDE), default=max(pipe.image_sizes)
        )
        train, test = (load_shards(shards / split, CELL) for split in ("train", "test"))
        return cls(pipe, Judge.load(judge), shards, train, test, size, options, sheets)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Tensor:
        """Draw one picture of each prompt: uint8 (prompts, CELL, CELL, 3), scaled as the judge reads them."""

        def task(chunk: slice) -> list[Image.Image]:
            result = self.pipe.text_to_image(
                prompts[chunk], seed=list(seeds[chunk]), image_size=self.image_size, batch_size=CHUNK, **self.options
            )
            return list(result.images)

        return self.chunks(task, len(prompts), what)

    def vary(self, pictures: Sequence[Image.Image], seeds: Sequence[int], what: str) -> Tensor:
        """Draw one picture of the image embedding of each picture: uint8 (pictures, CELL, CELL, 3)."""

        def task(chunk: slice) -> list[Image.Image]:
            result = self.pipe.image_variations(
                pictures[chunk], seed=list(seeds[chunk]), image_size=self.image_size, batch_size=CHUNK, **self.options
            )
            return list(result.images)

        return self.chunks(task, len(pictures), what)

    def chunks(self, task: Any, count: int, what: str) -> Tensor:
        """Run `task` for slices of `count` pictures, with a line of progress each; scales and joins the pictures."""
        parts, started = [], time.monotonic()
        for first in range(0, count, CHUNK):
            images = resize(from_pil(task(slice(first, first + CHUNK))), CELL)
            parts.append(torch.from_numpy(to_uint8(images)))
            done, seconds = min(first + CHUNK, count), time.monotonic() - started
            print(f"{what}: {done} of {count} pictures, {seconds / done:.2f} s each", file=sys.stderr, flush=True)
        return torch.cat(parts)

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
