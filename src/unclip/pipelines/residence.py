"""Networks that are in memory only while they are used. Knows modules and where their weights are; no stage."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from unclip.checkpoint import NetworkWeights, fill

__all__ = ["Residence", "StageFiles"]


@dataclass(frozen=True, eq=False)
class Residence:
    """Where a network's weights come from, and how they are held."""

    weights: NetworkWeights
    device: torch.device
    dtype: torch.dtype

    def fill(self, network: nn.Module) -> None:
        """Read the weights of `network`; raises `CheckpointError` where they do not fit."""
        fill(network, self.weights.tensors, self.weights.source, self.device, self.dtype)


@dataclass(frozen=True, eq=False)
class StageFiles:
    """The files behind networks that wait on the meta device; others stay where they are."""

    residences: Mapping[nn.Module, Residence]

    @contextmanager
    def resident(self, *networks: nn.Module) -> Iterator[None]:
        """Hold the weights of `networks` inside the block."""
        waiting = [network for network in networks if network in self.residences]
        try:
            for network in waiting:
                self.residences[network].fill(network)
            yield
        finally:
            for network in waiting:
                network.to("meta")
