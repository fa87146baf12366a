"""What torch-fidelity was asked and what it said: numbers that a portable rule makes, and its answers to them.

The rule is shared with `benchmarks/peers/make_metric_golden.py`, where there is no unclip: so this knows none of it.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.safetensors"
PICTURES = {"small": (2, 3, 40, 72), "large": (1, 3, 350, 310)}
ROWS = {"drawn": (300, 24), "real": (360, 24), "equal": (300, 24), "logits": (300, 40)}


def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in float64 of mean 0 and variance 1: the raw stream of PCG64 never changes between versions."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy((uniform - 0.5) * 12**0.5).reshape(shape)


def rows(name: str) -> Tensor:
    """Features or logits in float64, of no simple distribution; those of "real" lie elsewhere, a little wider."""
    shape = ROWS[name]
    mixed = numbers(name, shape) @ numbers("mixing", (shape[1], shape[1])) / shape[1] ** 0.5
    return 1.05 * mixed + 0.35 if name == "real" else mixed


def picture(name: str) -> Tensor:
    """8-bit pictures (batch, 3, height, width): coarse blocks of colour under noise."""
    batch, channels, height, width = PICTURES[name]
    coarse = numbers(f"{name} blocks", (batch, channels, 5, 7))
    blocks = coarse[:, :, torch.arange(height) * 5 // height][..., torch.arange(width) * 7 // width]
    return (128 + 50 * blocks + 15 * numbers(f"{name} noise", PICTURES[name])).clamp(0, 255).round().to(torch.uint8)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state of these names and shapes through which activations neither vanish nor grow."""
    return {name: _weight(name, shape).float() for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    values = numbers(name, shape)
    if len(shape) > 1:
        return values * (2 / np.prod(shape[1:])) ** 0.5
    centre = 1.0 if name.endswith(("bn.weight", "running_var")) else 0.0
    return centre + 0.1 * values


def answers() -> tuple[dict[str, Tensor], dict[str, float]]:
    """Outputs of the network for each picture, `PICTURE/NAME`, and metrics by name."""
    with safe_open(GOLDEN, "pt") as file:
        return load_file(GOLDEN), json.loads(file.metadata()["metrics"])
