"""The unit that a network repeats: it is sharded as a whole, and may compute its activations again."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """A residual, attention or transformer block; its inputs have no names, so that each call can be repeated."""

    recompute: bool = False
    """Whether training computes the activations again on the way back instead of keeping them (Chen et al. 2016)."""

    def __call__(self, *inputs: Any) -> Any:
        """Run the hooks and `forward`; losses and gradients do not depend on `recompute`, also under dropout."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)
