"""The contract between the loop and what is trained. Knows no stage."""

import abc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import Storage

__all__ = ["Task", "TaskLoss"]


class TaskLoss(NamedTuple):
    """A differentiable scalar, and numbers worth a line in the log."""

    loss: Tensor
    metrics: dict[str, float]


class Task(abc.ABC):
    """A stage under training: its network, its batches and its loss. All randomness comes from the passed generator."""

    network: nn.Module
    num_items: int
    """Pictures in the data set."""

    @abc.abstractmethod
    def loss(self, indices: np.ndarray, generator: torch.Generator) -> TaskLoss:
        """The mean loss over the pictures numbered `indices`."""

    @abc.abstractmethod
    def preview(self, network: nn.Module) -> Image.Image | None:
        """A grid of samples from `network`, always of the same pictures and noise; None if there is nothing to see."""

    @abc.abstractmethod
    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        """Write what the pipeline loads for this stage to `folder`."""
