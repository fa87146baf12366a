"""Small feature networks, and sets of real pictures to look at with them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.evaluate import EvaluateOptions, Evaluation
from unclip.metrics import ModuleFeatures
from unclip.runtime import forked_random_state

PROMPTS = ["a red apple", "a cat", "an old house", "the sun", "a blue heart"]
"""Of the evaluations of the tiny model."""


class Counting(nn.Module):
    """A small convolution network that counts the pictures it was shown."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, dim, 5, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_seen += len(images)
        return self.layers(images)


def tiny_network(kind: str = "inception", seed: int = 0) -> ModuleFeatures:
    """A network of random weights that depend on `seed` alone."""
    with forked_random_state(seed):
        return ModuleFeatures(Counting(), f"tiny-{kind}", kind, 32)


def write_digits(folder: Path, places: Sequence[int], names: Sequence[str] | None = None) -> Path:
    """Scans of handwritten digits (8 x 8, of the 1797 that scikit-learn brings) as PNG with .txt captions."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True)
    for number, place in enumerate(places):
        stem = folder / (names[number] if names else f"{number:04}")
        pixels = np.rint(255 - digits.images[place] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(stem.with_suffix(".png"))
        stem.with_suffix(".txt").write_text(f"the digit {digits.target[place]}")
    return folder


def rows_of(network: ModuleFeatures, images: Sequence[Image.Image]) -> Tensor:
    """Features of RGB pictures one at a time, as the definition has it."""
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in images]
    return torch.cat([next(iter(network(one).values())) for one in pixels]).double()


def options(tmp_path: Path, **given: object) -> EvaluateOptions:
    """Of an evaluation of the tiny model."""
    return EvaluateOptions(**{"cache": tmp_path / "cache", "size": 32, "seed": 3, **given})  # type: ignore[arg-type]


class Finished(NamedTuple):
    """An evaluation of `PROMPTS` in chunks of 2 by `tiny_network()` and `judge`: `out`, `cache` and `reference`."""

    root: Path
    evaluation: Evaluation

    @property
    def out(self) -> Path:
        """The folder of the results."""
        return self.root / "out"

    @property
    def reference(self) -> Path:
        """The real pictures: 7 digits."""
        return self.root / "reference"

    def copy(self, root: Path) -> "Finished":
        """Copy all of it, to be changed."""
        return Finished(shutil.copytree(self.root, root), self.evaluation)
