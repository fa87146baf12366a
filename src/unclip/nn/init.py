"""Initial values that more than one block uses. Knows no block."""

from typing import TypeVar

from torch import nn

L = TypeVar("L", nn.Linear, nn.Conv2d)


def zeroed(layer: L) -> L:
    """The layer with weight and bias 0, so that what it ends contributes nothing at the start of training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
