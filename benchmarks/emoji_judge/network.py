"""The judge of drawn emoji: a small convolutional classifier of concepts, and how pictures are scored with it.

It knows pictures and names of concepts; no generator and no prompt.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.checkpoint import file_hash, load_tensors, load_weights, save_module
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, InputError
from unclip.images import from_uint8, resize

WEIGHTS = Path(__file__).parent / "judge.safetensors"
KIND = "emoji-judge"
BATCH = 128
NUM_FIRST = 5


class JudgeConfig(Config):
    """What the classifier tells apart, and its widths."""

    concepts: tuple[str, ...]
    """Names of the classes."""
    designs: tuple[str, ...]
    """Names of the classes of the second head."""
    image_size: int = 64
    """Side of the pictures that it reads, in pixels."""
    patch_size: int = 4
    """Pixels along the side of one position of the first grid."""
    widths: tuple[int, int, int] = (96, 160, 176)
    """Channels on the grids of 16, 8 and 4 positions a side."""


class ConvNorm(nn.Sequential):
    """A 3 x 3 convolution and a batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels))


class Residual(nn.Module):
    """Two convolutions around which the input passes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = ConvNorm(channels, channels), ConvNorm(channels, channels)
        nn.init.zeros_(self.second[1].weight)  # a block begins as the identity

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class JudgeNetwork(nn.Module):
    """Pictures to features, and features to logits of concepts and designs."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        high, middle, low = config.widths
        # 3 x 3 convolutions of 96 and more channels on small grids: narrow ones on 64 x 64 cost ten times as much.
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(config.patch_size),
            ConvNorm(3 * config.patch_size**2, high),
            nn.ReLU(),
            Residual(high),
            nn.AvgPool2d(2),
            ConvNorm(high, middle),
            nn.ReLU(),
            Residual(middle),
            nn.AvgPool2d(2),
            ConvNorm(middle, low),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.concepts = nn.Linear(low, len(config.concepts))
        self.designs = nn.Linear(low, len(config.designs))

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures (batch, 3, image_size, image_size) in [-1, 1] to features (batch, dim)."""
        return self.trunk(images.contiguous(memory_format=torch.channels_last))


class Score(NamedTuple):
    """Shares of pictures in [0, 1]."""

    top1: float
    """The judge's first concept is a right one."""
    top5: float
    """One of its first five is."""
    count: int
    """Of how many pictures."""


class Judge:
    """A trained judge of pictures: uint8 (batch, height, width, channels), or float (batch, channels, height, width).

    Floats are in [-1, 1]. Of four channels the last, coverage, is left out: the first three are the picture on white.
    """

    def __init__(self, network: JudgeNetwork, fingerprint: str = "") -> None:
        self.network = network.eval()
        self.fingerprint = fingerprint
        self.places = {concept: place for place, concept in enumerate(network.config.concepts)}

    @classmethod
    def load(cls, path: Path | str = WEIGHTS) -> Self:
        """Read a judge that `train.py` wrote; raises `CheckpointError` for a missing, damaged or other file."""
        tensors, metadata = load_tensors(path)
        if metadata.get("kind") != KIND:
            raise CheckpointError(
                f"{path} is of kind {metadata.get('kind')!r}, not {KIND!r}; train one by train.py beside this script."
            )
        network = JudgeNetwork(load_config(JudgeConfig, json.loads(metadata["config"])))
        load_weights(network, tensors, path)
        return cls(network, file_hash(path))

    def save(self, path: Path | str) -> None:
        """Write the judge in int8, one scale per output channel."""
        save_module(path, self.network, self.network.config, KIND, "int8")

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """Compute features (batch, dim), float32, that tell concept and design."""
        size = self.network.config.image_size
        return torch.cat([self.network(resize(as_images(part), size)) for part in pictures.split(BATCH)])

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Compute logits (batch, concepts) of features."""
        return self.network.concepts(features)

    @torch.no_grad()
    def design_logits(self, features: Tensor) -> Tensor:
        """Compute logits (batch, designs) of features."""
        return self.network.designs(features)

    def ranks(self, features: Tensor, concepts: Sequence[Sequence[str]]) -> Tensor:
        """Rank the best of the right concepts of each picture: 0 is the first of all; int64 (batch).

        Raises `InputError` for a concept that the judge does not know, and for other numbers of pictures and concepts.
        """
        if len(features) != len(concepts):
            raise InputError(f"{len(concepts)} lists of concepts for {len(features)} pictures; give one for each.")
        unknown = sorted({name for names in concepts for name in names} - self.places.keys())
        if unknown or not all(concepts):
            raise InputError(
                f"no concept of this judge: {', '.join(unknown[:4]) or 'an empty list'}; use names of its training set."
            )
        logits = self.logits(features)
        best = torch.stack(
            [row[[self.places[name] for name in names]].max() for row, names in zip(logits, concepts, strict=True)]
        )
        return (logits > best[:, None]).sum(dim=1)

    def score(self, pictures: Tensor, concepts: Sequence[str]) -> Score:
        """Score pictures by their concepts, one each: for a training's preview as for a report."""
        return shares(self.ranks(self.features(pictures), [[concept] for concept in concepts]))


def shares(ranks: Tensor) -> Score:
    """Return the shares of ranks below 1 and below 5; of no rank they are 0."""
    values = [(ranks < count).float().mean().item() if len(ranks) else 0.0 for count in (1, NUM_FIRST)]
    return Score(round(values[0], 4), round(values[1], 4), len(ranks))


def as_images(pictures: Tensor) -> Tensor:
    """Convert pictures, as `Judge` takes them, to float32 (batch, 3, height, width) in [-1, 1]."""
    if pictures.dtype == torch.uint8:
        return from_uint8(pictures[..., :3])
    return pictures[:, :3].float().clamp(-1.0, 1.0)


def kind_of(group: str) -> str:
    """Return under which heading a concept of this group of the data set is reported."""
    return {"people-body": "people", "flags": "flags"}.get(group, "others")
