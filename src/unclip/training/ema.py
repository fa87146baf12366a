"""Exponential moving average of weights, with a half-life in images. Knows no task."""

import copy

import torch
from torch import nn

__all__ = ["Ema", "ema_decay"]

RAMP_UP = 0.1


def ema_decay(batch_size: int, images_seen: int, half_life: float) -> float:
    """Weight of the old average after one batch; the half-life is at most a tenth of the images seen (EDM2, G.1)."""
    return float(0.5 ** (batch_size / max(1.0, min(half_life, RAMP_UP * images_seen))))


class Ema:
    """A second copy of a network that follows its weights slowly; buffers are copied."""

    def __init__(self, network: nn.Module, half_life: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, network: nn.Module, batch_size: int, images_seen: int) -> None:
        """Move the average towards `network`, which has now seen `images_seen` images."""
        weight = 1.0 - ema_decay(batch_size, images_seen, self.half_life)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)
