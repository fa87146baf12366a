"""Sets of random features for tests of metrics, and a network for libraries that want one."""

import torch
from torch import Tensor, nn

from unclip.runtime import seeded


def features(rows: int, seed: int, dim: int = 6) -> Tensor:
    """Correlated float64 rows around a mean of their own."""
    mixing = torch.randn(dim, dim, generator=seeded(seed), dtype=torch.float64)
    return torch.randn(rows, dim, generator=seeded(seed, 1), dtype=torch.float64) @ mixing + 0.1 * seed


class AsTheyAre(nn.Module):
    """Takes features for pictures and gives them back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, rows: Tensor) -> Tensor:
        return rows
