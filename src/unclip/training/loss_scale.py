"""The factor that keeps small gradients above the smallest float16. Knows no tensors: the loop multiplies and divides.

Mixed Precision Training (arXiv 1710.03740), section 3.2, with the constants that PyTorch's `GradScaler` has.
"""

from typing import NamedTuple

__all__ = ["LossScale"]

FIRST = 2.0**16
GROWTH_INTERVAL = 2000


class LossScale(NamedTuple):
    """A value and what it was after: two numbers, so `LossScale(*json.loads(json.dumps(scale)))` goes on from it."""

    value: float = FIRST
    """What the loss is multiplied by and the gradients are divided by; a power of two, so that both are exact."""
    num_finite: int = 0
    """Finite steps since it last changed."""

    def after(self, finite: bool) -> "LossScale":
        """The scale of the next step: half after gradients that are not finite, twice after 2,000 finite steps."""
        if not finite:
            return LossScale(self.value / 2)
        if self.num_finite + 1 == GROWTH_INTERVAL:
            return LossScale(self.value * 2)
        return LossScale(self.value, self.num_finite + 1)
