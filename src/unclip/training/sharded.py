"""Tensors of which each process holds a part. The only place, beside `distributed.py`, that knows `DTensor`.

Whoever asks whether a tensor is one does not import it: that takes half a second, and most runs have none.
"""

import sys
from typing import Any

from torch import Tensor

__all__ = ["is_sharded", "sharded_like", "whole"]

MODULE = "torch.distributed.tensor"


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of `tensor`."""
    module: Any = sys.modules.get(MODULE)
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one, which all processes have to ask for at once."""
    parent: Any = tensor
    return parent.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(like: Tensor, value: Tensor) -> Tensor:
    """This process's part of `value`, which all of them hold, cut as `like` is; `value` itself where that is whole."""
    if not is_sharded(like) or is_sharded(value) or not value.ndim:
        return value
    from torch.distributed.tensor import distribute_tensor

    parent: Any = like
    return distribute_tensor(value, parent.device_mesh, parent.placements, src_data_rank=None)
