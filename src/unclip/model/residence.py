"""Where a network's weights come from, and whether they are in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from unclip.checkpoint import LazyTensor, NetworkWeights, fill


class Residence:
    """A network's weights as they are stored, and how they are held while it is used.

    A network that `stays` is filled once; another is read for every use and waits on the meta device. Threads may use
    it at the same time: the first reads the weights, the last frees them.
    """

    def __init__(
        self, weights: NetworkWeights, device: torch.device, dtype: torch.dtype, *, stays: bool = True
    ) -> None:
        self.weights = weights
        self.device = device
        self.dtype = dtype
        self.stays = stays
        self._lock = threading.Lock()
        self._num_users = 0

    def fill(self, network: nn.Module) -> None:
        """Read the weights of `network`; raises `CheckpointError` where they do not fit."""
        fill(network, self.weights.tensors, self.weights.source, self.device, self.dtype)

    @contextmanager
    def resident(self, network: nn.Module) -> Iterator[None]:
        """Hold the weights of `network` inside the block."""
        if self.stays:
            yield
            return
        with self._lock:
            if self._num_users == 0:
                self.fill(network)
            self._num_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_users -= 1
                if self._num_users == 0:
                    network.to("meta")

    def to_save(self, network: nn.Module) -> NetworkWeights:
        """Return the weights of `network`, each tensor as it is stored unless it was changed in memory since.

        Memory may hold fewer bits than the file: bfloat16 of float32. What was stored comes back bit for bit.
        """
        if not self.stays:
            return self.weights
        tensors = {}
        for name, tensor in network.state_dict().items():
            stored = self.weights.tensors[name]
            is_unchanged = torch.equal(stored.read().to(tensor.device, tensor.dtype), tensor)
            tensors[name] = stored if is_unchanged else LazyTensor.of(tensor.detach().cpu())
        return replace(self.weights, tensors=tensors)
